"""SIGKILL at random moments: the next run ends with the bytes of one that nothing disturbed."""

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config import PairsSettings
from pipeline.tokens.extract import extract_set
from stages.evaluate import evaluate
from stages.extract_tokens import extract_tokens
from stages.make_pairs import make_pairs
from stages.params import Params
from stages.runner.stage import Stage
from tests.fuzz.test_images import TINY
from tests.support.disasters import killed_at_random, timed, tree
from tests.support.evaluation import evaluation_stage, make_evaluation
from tests.support.fuzzing import FACTOR, command
from tests.support.networks import saved_upscaler
from tests.support.pairs import PAIRS, data_settings, texture
from tests.support.states import flattened
from tests.support.tokens import SETTINGS, make_material
from tests.support.training import predictor_task, rap_task, tokenizer_task
from tests.support.training import run as train
from tvqrap.runtime.atomic import is_temporary

pytestmark = pytest.mark.slow

KILLS = 5


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tvqrap.runtime.cores.idle_cores", lambda: 1)


def check(name: str, tmp_path: Path, work: Callable[[Path], None], kills: int = KILLS) -> None:
    """Compares a folder that `work` fills undisturbed with one that it fills after kills."""
    seconds = timed(partial(work, tmp_path / "whole"))
    kills = max(1, round(kills * FACTOR))
    killed_at_random(name, partial(work, tmp_path / "killed"), kills, seconds)
    found, expected = (
        {
            path: content
            for path, content in tree(tmp_path / side).items()
            if path[-8:] != ".storage"
        }
        for side in ("killed", "whole")  # *.storage: a random word by which workers know the place
    )
    assert not [path for path in found if is_temporary(Path(path).name) or ".partial" in path]
    assert found.keys() == expected.keys()
    assert [path for path in expected if found[path] != expected[path]] == []


def test_upscale(tmp_path: Path) -> None:
    saved_upscaler(tmp_path / "model", TINY)
    (tmp_path / "in").mkdir()
    for number in range(4):
        Image.fromarray(texture(number, 30, 40)).save(tmp_path / "in" / f"{number}.png")

    def work(out: Path) -> None:
        done = command("upscale", tmp_path / "in", "-o", out, "--model", tmp_path / "model")
        assert done.exit_code == 0, done.output

    check("upscale", tmp_path, work)


def test_evaluate(tmp_path: Path) -> None:
    for number in range(4):
        hr = texture(number, 64, 64)
        for side, pixels in (("gt", hr), ("lq", np.asarray(Image.fromarray(hr).reduce(4)))):
            (tmp_path / side).mkdir(exist_ok=True)
            Image.fromarray(pixels).save(tmp_path / side / f"{number}.png")

    def work(out: Path) -> None:
        given = ("--gt", tmp_path / "gt", "--lq", tmp_path / "lq", "--metrics", "psnr_y,gmsd")
        done = command("evaluate", "bicubic", "lanczos", *given, "-o", out, "--workers", 1)
        if "holds an evaluation already" in done.output:  # killed after its last file
            assert (out / "metrics.json").exists()
            done = command("evaluate", "bicubic", "lanczos", *given, "-o", out, "--overwrite")
        assert done.exit_code == 0, done.output

    work(tmp_path / "first")  # imports once what each process would import
    check("evaluate", tmp_path, work)


def test_make_pairs(tmp_path: Path) -> None:
    """The stage, from photographs to published sets."""
    (tmp_path / "photos").mkdir()
    for number in range(8):
        image = Image.fromarray(texture(number, 64 + 7 * number, 100 - 5 * number))
        image.save(tmp_path / "photos" / f"p{number}.png")
    data = data_settings(tmp_path / "photos")
    pairs = PairsSettings.model_validate(PAIRS)
    params = cast(Params, SimpleNamespace(data=data, pairs=pairs))

    def work(checkout: Path) -> None:
        checkout.mkdir(exist_ok=True)
        os.chdir(checkout)
        os.environ["TVQRAP_EXECUTOR"] = "serial"
        make_pairs(Stage("make_pairs", params, "0" * 64, Path(".scratch/make_pairs")))
        for path in checkout.glob(".scratch/logs/**/*"):  # a log of each run
            if path.is_file():
                path.unlink()

    check("make_pairs", tmp_path, work)


def test_the_stage_that_extracts_tokens(tmp_path: Path) -> None:
    """From pairs to published sets and tables."""
    torch.set_num_threads(1)
    pairs, tokenizer = make_material(tmp_path, count=8, shard_size=2)
    for side in ("whole", "killed"):
        shutil.copytree(pairs, tmp_path / side / "data/pairs/train")
        shutil.copytree(tokenizer, tmp_path / side / "models/tokenizer")
    params = cast(Params, SimpleNamespace(tokens=SETTINGS))

    def work(checkout: Path) -> None:
        os.chdir(checkout)
        os.environ["TVQRAP_EXECUTOR"] = "serial"
        scratch = Path(".scratch/extract_tokens")
        scratch.mkdir(parents=True, exist_ok=True)
        extract_tokens(Stage("extract_tokens", params, "0" * 64, scratch))
        shutil.rmtree(".scratch/logs", ignore_errors=True)  # a log of each run

    check("extract_tokens", tmp_path, work)


def test_the_stage_that_evaluates(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    make_evaluation(tmp_path / "first")
    for side in ("whole", "killed"):
        shutil.copytree(tmp_path / "first", tmp_path / side)

    def work(checkout: Path) -> None:
        stage = evaluation_stage(checkout)
        evaluate(stage)
        shutil.rmtree(stage.scratch, ignore_errors=True)  # as the runner of stages does
        Path("evaluation/timing.json").unlink()

    work(tmp_path / "first")  # imports once what each process would import
    check("stage evaluate", tmp_path, work, kills=3)


def test_the_extraction(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    (tmp_path / "material").mkdir()
    pairs, tokenizer = make_material(tmp_path / "material", count=8, shard_size=2)

    def work(out: Path) -> None:
        options: dict[str, Any] = {"executor": "serial", "workers": 1, "logs": tmp_path / "logs"}
        extract_set(pairs, tokenizer, out, SETTINGS, **options)

    check("extraction", tmp_path, work)


@pytest.mark.usefixtures("small_distance")
@pytest.mark.parametrize("kind", ["tokenizer", "predictor", "rap"])
def test_trainings(kind: str, tmp_path: Path) -> None:
    """The last checkpoint and the pictures, which a run that was killed must not have twice."""
    tasks = {"tokenizer": tokenizer_task, "predictor": predictor_task, "rap": rap_task}
    torch.set_num_threads(1)
    tasks[kind]()  # imports once what each process would import

    def work(folder: Path) -> None:
        task = tasks[kind]()
        train(task, folder)
        # The values: a file of them also tells which tensors shared memory when they were loaded.
        end = json.dumps(flattened(task.state()), default=lambda tensor: tensor.tolist())
        (folder / "end.tmp").write_text(end)
        (folder / "end.tmp").rename(folder / "end")
        for path in folder.glob("step-*.pt"):  # they hold times
            path.unlink()

    check(kind, tmp_path, work, kills=2)
