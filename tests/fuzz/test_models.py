"""Damaged model folders, checkpoints, results and params, through all that reads them."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
import torch

from stages.params import load_params
from tests.fuzz.test_images import TINY
from tests.support.fuzzing import Files, Trial, assert_no_fault, command
from tests.support.mutations import DEEP, damaged, odd_document, odd_json
from tests.support.paths import ROOT
from tests.support.scores import case, run
from tests.support.training import predictor_task
from tests.support.training import run as train
from tvqrap.comparison.result_files import read_result
from tvqrap.comparison.results import compare
from tvqrap.comparison.spandrel import other_upscaler
from tvqrap.evaluation.report.page import Page
from tvqrap.evaluation.run import Report, write_results
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import load_tokenizer, save_model
from tvqrap.pretrained.models import find_model
from tvqrap.pretrained.single_file import write_single_file
from tvqrap.pretrained.upscaler import load_frozen_parts
from tvqrap.runtime.state_dict import read_state_file
from tvqrap.upscaling.upscaler import Upscaler

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders `rap` and `tokenizer`."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    root = tmp_path_factory.mktemp("models")
    save_model(root / "rap", "upscaler", UpscalerNetwork(TINY), TINY, {"stage": "rap"})
    save_model(root / "tokenizer", "tokenizer", Tokenizer(TINY), TINY, {})
    return root


def files_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def odd_safetensors(content: bytes, rng: Random) -> bytes:
    """With another header, or damaged."""
    length = int.from_bytes(content[:8], "little")
    if rng.random() < 0.5:
        return damaged(content, rng)
    header = odd_json(content[8 : 8 + length], rng)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def odd_model(folder: Path) -> Callable[[Random], Files]:
    whole = files_of(folder)

    def make(rng: Random) -> Files:
        if rng.random() < 0.5:
            return {**whole, "model.json": odd_json(whole["model.json"], rng)}
        weights = odd_safetensors(whole["model.safetensors"], rng)
        return {**whole, "model.safetensors": weights}

    return make


def test_model_folders(models: Path, tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        command("convert", given, "-o", out / "half", "--dtype", "float16")
        command("average", given, models / "rap", "-o", out / "mean")
        assert Upscaler.from_pretrained(given) is not None

    assert_no_fault(Trial("model", odd_model(models / "rap"), use), tmp_path, 150)


def test_tokenizers(models: Path, tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        load_frozen_parts(given, UpscalerNetwork(TINY))
        load_tokenizer(given)

    assert_no_fault(Trial("tokenizer", odd_model(models / "tokenizer"), use), tmp_path, 100)


def test_single_files(models: Path, tmp_path: Path) -> None:
    """An upscaler in one file, as other programs take it."""
    write_single_file(models / "rap", tmp_path / "whole.safetensors", torch.float32)
    whole = (tmp_path / "whole.safetensors").read_bytes()
    others = files_of(models / "rap")["model.safetensors"]

    def make(rng: Random) -> Files:
        if rng.random() < 0.3:
            return {"a.safetensors": damaged(whole, rng, [others])}
        return {"a.safetensors": odd_safetensors(whole, rng)}

    def use(given: Path, out: Path) -> None:
        find_model(given / "a.safetensors").load()

    assert_no_fault(Trial("single file", make, use), tmp_path, 200)


def odd_checkpoint(content: bytes, rng: Random) -> bytes:
    """A `.pth` file, damaged as a whole or in one part of its archive."""
    if rng.random() < 0.4:
        return damaged(content, rng)
    stream = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(content)) as old, zipfile.ZipFile(stream, "w") as new:
        names = old.namelist()
        chosen = next(name for name in names if name.endswith("data.pkl"))
        if rng.random() < 0.3:
            chosen = rng.choice(names)
        for name in names:
            part = old.read(name)
            new.writestr(name, damaged(part, rng) if name == chosen else part)
    return stream.getvalue()


def test_checkpoints_of_others(models: Path, tmp_path: Path) -> None:
    state = {f"conv{n}.weight": torch.ones(4, 4) * n for n in range(3)}
    formats = []
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        stream = io.BytesIO()
        torch.save({"params": state}, stream, **options)
        formats.append(stream.getvalue())
    weights = files_of(models / "rap")["model.safetensors"]

    def make(rng: Random) -> Files:
        kind = rng.randrange(4)
        if kind == 0:
            return {"model.pth": damaged(formats[1], rng)}
        if kind == 1:
            return {"model.safetensors": odd_safetensors(weights, rng)}
        return {"model.pth": odd_checkpoint(formats[0], rng)}

    def use(given: Path, out: Path) -> None:
        (path,) = given.iterdir()
        command("import", path, "-o", out / "model")
        read_state_file(path)
        other_upscaler(path)

    assert_no_fault(Trial("checkpoint", make, use), tmp_path, 500)


@pytest.mark.usefixtures("small_distance")
def test_checkpoints_of_trainings(tmp_path: Path) -> None:
    """A checkpoint that cannot be read is passed over, or ends the training in one line."""
    torch.set_num_threads(1)
    train(predictor_task(), tmp_path / "whole", steps=2)
    newest = max((tmp_path / "whole").glob("step-*.pt"))

    def make(rng: Random) -> Files:
        content = newest.read_bytes()
        odd = odd_checkpoint(content, rng) if rng.random() < 0.5 else damaged(content, rng)
        return {newest.name: odd}

    def use(given: Path, out: Path) -> None:
        (out / newest.name).write_bytes((given / newest.name).read_bytes())
        train(predictor_task(), out, steps=2)

    assert_no_fault(Trial("training", make, use), tmp_path, 30)


def test_results(tmp_path: Path) -> None:
    results = run(tmp_path / "images", [case(f"p{n}", n) for n in range(4)])
    about = {"bicubic": {"kind": "made", "fingerprint": "0" * 64}}
    models = dict.fromkeys(("bicubic", "theirs", "ours"), about["bicubic"])
    report = Report(Page("a test", "made", "ours"), 2, "4 images")
    write_results(tmp_path / "whole", results, report, data={"lr": "0" * 64}, models=models)
    whole = files_of(tmp_path / "whole")
    kept = {name: whole[name] for name in ("scores.json", "per_image.csv")}

    def make(rng: Random) -> Files:
        if rng.random() < 0.7:
            return {**kept, "scores.json": odd_json(kept["scores.json"], rng)}
        return {**kept, "per_image.csv": damaged(kept["per_image.csv"], rng)}

    def use(given: Path, out: Path) -> None:
        command("evaluate", "--compare", given, tmp_path / "whole", "-o", out / "a.json")
        compare(read_result(tmp_path / "whole"), read_result(given))

    assert_no_fault(Trial("results", make, use), tmp_path, 400)


_YAML = (
    DEEP,
    "a: &b0 [1, 1]\n" + "".join(f"k{n}: &b{n + 1} [*b{n}, *b{n}]\n" for n in range(30)),
    "seed: !!python/object/apply:os.system [true]\n",
    "seed: 2026-02-30\n",
    "? [1, 2]\n: 3\n",
    "<<: 5\n",
    "seed: 1\nseed: 2\n",
    "base: laptop.yaml\n",
    "base: params.yaml\n",
    "seed: 0o99\nwidth: .nan\n",
    "%YAML 9.9\n---\nseed: 1\n",
    "--- 1\n--- 2\n",
    "\ufeffseed: 1\n",
    "seed: \x07\n",
)


def test_params(tmp_path: Path) -> None:
    from stages.profile import read_mapping

    text = (ROOT / "stages/profiles/laptop.yaml").read_text()
    document = read_mapping(text, "laptop.yaml")
    lines = text.splitlines(keepends=True)

    def make(rng: Random) -> Files:
        kind = rng.random()
        if kind < 0.6:  # JSON is YAML, and is read ten times as fast
            odd = json.dumps(odd_document(document, rng)).encode()
        elif kind < 0.7:
            odd = damaged(json.dumps(document).encode(), rng)
        elif kind < 0.9:
            start = rng.randrange(len(lines))
            few = "".join(lines[start : start + 20])
            odd = damaged(few.encode(), rng)
        else:
            odd = rng.choice(_YAML).encode("utf-8", "surrogatepass")
        return {"params.yaml": odd}

    def use(given: Path, out: Path) -> None:
        done = command("params", "check", given / "params.yaml")
        assert done.exit_code in (0, 2) or "base" in (given / "params.yaml").read_text("latin-1")
        if done.exit_code == 0:
            load_params(given / "params.yaml")

    assert_no_fault(Trial("params", make, use), tmp_path, 100)
