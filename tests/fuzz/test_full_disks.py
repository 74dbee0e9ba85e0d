"""A disk that takes nothing more: one line, exit code 1, and the old output is as it was."""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image

from pipeline.executor.shards import ShardsFailed
from pipeline.shards.tar import read_shard
from pipeline.storage.location import location
from pipeline.tokens.extract import extract_set
from stages.runner import launch
from stages.runner.launch import run_training
from stages.runner.stage import Stage, run_stage
from tests.fuzz.test_images import TINY
from tests.support.disasters import apart, full_disk, refuse_changes, tree
from tests.support.fuzzing import command
from tests.support.pairs import texture
from tests.support.paths import ROOT
from tests.support.tokens import SETTINGS, make_material
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.runtime.errors import UserError

pytestmark = pytest.mark.slow

COMMANDS = {
    "upscale": "upscale {0}/photo.png -o {0}/out/large.png --model {0}/model --overwrite",
    "upscale jpeg": "upscale {0}/photo.png -o {0}/out/large.jpg --model {0}/model --overwrite",
    "evaluate": "evaluate bicubic --gt {0}/gt --lq {0}/lq -o {0}/out/scores --overwrite "
    "--metrics psnr_y --workers 1",
    "convert": "convert {0}/model -o {0}/out/half --dtype float16 --overwrite",
    "average": "average {0}/model {0}/other -o {0}/out/mean --overwrite",
    "export": "export --model {0}/model -o {0}/out/a.onnx --overwrite",
    "export as one file": "export --model {0}/model --format safetensors "
    "-o {0}/out/a.safetensors --overwrite",
    "stats": "tokens stats {0}/material/tokens/train --margins 0 -o {0}/out/stats",
    "preview of tokens": "tokens preview {1} --tokens {0}/material/tokens/train "
    "--pairs {0}/material/pairs --tokenizer {0}/material/tokenizer -o {0}/out/tokens.png "
    "--overwrite",
    "preview of pairs": "pairs preview {0}/larger.png -o {0}/out/pairs.png --size 64 --rows 1 "
    "--overwrite",
    "docs": "params docs -o {0}/out/params.md",
    "use": "params use smoke",
}
DISASTERS: dict[str, Callable[[Path], None]] = {
    "full": lambda out: full_disk(200),
    "no space": partial(refuse_changes, error=errno.ENOSPC),
    "read-only": partial(refuse_changes, error=errno.EROFS),
}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs, models and tokens, and `out/checkout`, whose params a command changes."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("disk")
    for name in ("model", "other"):
        torch.manual_seed(0)  # models of one codebook can be averaged
        save_model(root / name, "upscaler", UpscalerNetwork(TINY), TINY, {})
    hr = texture(1, 128, 128)
    for name, pixels in (("gt", hr), ("lq", np.asarray(Image.fromarray(hr).reduce(4)))):
        (root / name).mkdir()
        Image.fromarray(pixels).save(root / name / "a.png")
    Image.fromarray(hr).save(root / "photo.png")
    Image.fromarray(texture(2, 256, 256)).save(root / "larger.png")
    (root / "material").mkdir()
    pairs, tokenizer = make_material(root / "material", count=4, shard_size=2)
    out = root / "material/tokens"
    extract_set(pairs, tokenizer, out, SETTINGS, executor="serial", workers=1)
    (root / "out/checkout/stages").mkdir(parents=True)
    shutil.copytree(ROOT / "stages/profiles", root / "out/checkout/stages/profiles")
    for name in ("dvc.yaml", "params.yaml"):
        shutil.copy(ROOT / name, root / "out/checkout" / name)
    return root


@pytest.fixture(scope="module")
def ran() -> set[str]:
    """Names of the commands whose output is in `out`."""
    return set()


@pytest.fixture
def before(root: Path, name: str, ran: set[str]) -> dict[str, bytes]:
    """The content of `out`, where the output of a command is."""
    if name not in ran or list((root / "out").rglob("unfinished")):
        done = called(root, name)
        assert done.exit_code == 0, done.output
        ran.add(name)
    return tree(root / "out")


def called(root: Path, name: str) -> Result:
    """Calls one of the commands in the checkout."""
    key = next(read_shard(root / "material/tokens/train/000000.tar")).key
    with contextlib.chdir(root / "out/checkout"):
        return command(*COMMANDS[name].format(root, key).split())


@pytest.mark.parametrize("disaster", DISASTERS)
@pytest.mark.parametrize("name", COMMANDS)
def test_commands(
    root: Path,
    name: str,
    disaster: str,
    before: dict[str, bytes],
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        DISASTERS[disaster](root / "out")
        done = called(root, name)
        errors = [line for line in done.output.splitlines() if "rror" in line or "written" in line]
        assert done.exit_code == 1 and errors, done.output
        assert any(str(root / "out") in line for line in errors), done.output

    assert apart(work) == 0, capfd.readouterr()
    after = tree(root / "out")
    # Scores so far are kept, for the next run.
    assert {path: after[path] for path in after if "unfinished" not in path} == before


@pytest.mark.parametrize("name", COMMANDS)
def test_commands_do_without_temporary_files(
    root: Path,
    name: str,
    before: dict[str, bytes],
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    def work() -> None:
        os.environ["TMPDIR"] = tempfile.tempdir = str(tmp_path)
        refuse_changes(tmp_path, errno.ENOSPC)
        with pytest.raises(OSError, match="No space left"):
            tempfile.mkdtemp()
        done = called(root, name)
        assert done.exit_code == 0, done.output

    assert apart(work) == 0, capfd.readouterr()
    assert tree(root / "out") == before


def test_the_extraction_into_a_store_needs_them(root: Path, tmp_path: Path) -> None:
    """Workers copy the tokenizer from the store: one line, and the next run does the work."""
    pairs, tokenizer = root / "material/pairs/train", root / "material/tokenizer"
    work = location("memory://full-tmpdir")
    extract = partial(extract_set, pairs, tokenizer, work, SETTINGS, workers=1, executor="serial")

    def refused() -> None:
        os.environ["TMPDIR"] = tempfile.tempdir = str(tmp_path)
        refuse_changes(tmp_path, errno.ENOSPC)
        with pytest.raises(UserError, match=r"No space left on device[^\n]*$") as ended:
            extract()
        assert str(tmp_path) in str(ended.value)

    assert apart(refused) == 0
    extract()
    assert (work / "train/000000.tar").read_bytes() == (
        root / "material/tokens/train/000000.tar"
    ).read_bytes()


def test_a_training_of_several_workers_needs_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def work() -> None:
        tempfile.tempdir = str(tmp_path)
        refuse_changes(tmp_path, errno.ENOSPC)
        run_training("train_predictor", lambda stage, workers: None)

    monkeypatch.setattr(launch, "load_params", lambda: None)
    monkeypatch.setattr(launch, "workers_of", lambda name, params: 2)
    monkeypatch.setattr(launch, "fewer_workers_note", lambda name, params: None)
    assert apart(work) == UserError.exit_code
    said = capfd.readouterr().err
    assert said.count("\n") == 1
    assert said.startswith("train_predictor: No space left on device (") and str(tmp_path) in said


def test_the_extraction(root: Path, tmp_path: Path) -> None:
    """Shards that do not fit fail, and the next run makes them."""
    pairs, tokenizer = root / "material/pairs/train", root / "material/tokenizer"
    extract = partial(extract_set, pairs, tokenizer, tmp_path, SETTINGS, workers=1)

    def work() -> None:
        full_disk(10_000)
        with pytest.raises((ShardsFailed, OSError)):
            extract(executor="serial")

    assert apart(work) == 0
    assert not [path for path in tree(tmp_path) if path.endswith((".tar", ".tmp", "manifest.json"))]
    extract(executor="serial")
    whole = root / "material/tokens/train"
    assert tree(tmp_path / "train") == tree(whole)


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EROFS, errno.EACCES, errno.EIO])
def test_a_stage_says_it_in_one_line(
    error: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def body(name: str, work: Callable[[Stage], None]) -> None:
        (tmp_path / "file").write_text("")

    def work() -> None:
        refuse_changes(tmp_path, error)
        run_stage("sample", lambda stage: None)

    monkeypatch.setattr("stages.runner.stage.run_alone", body)
    assert apart(work) == UserError.exit_code
    said = capfd.readouterr().err
    assert said.count("\n") == 1 and said.startswith("sample: ") and str(tmp_path) in said
