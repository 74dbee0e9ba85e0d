"""Runs of a recipe: finished ones stay, failed ones are named, interrupted ones resume."""

import json
import re
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from stages.experiments import run as running
from stages.experiments.recipe import Run, Target
from stages.experiments.results import (
    EXPERIMENTS,
    SCORES,
)
from stages.experiments.working_copy import WorkingCopy
from stages.runner.executor import Executor
from tests.support.checkout import STAGES, make_checkout
from tests.support.experiments import SMALL, scores_file, small
from tvqrap.runtime.errors import UserError

SERIAL = Executor("serial", 1)

SLOW = """
title: Two points of all stages
paper: none
profile: smoke
target: evaluate
seeds: [1]
points:
  without-rap: {rap.steps: 0}
  with-rap: {rap.steps: 2}
models: [tokenizer, rap]
scores: [psnr_y, fsim]
"""


def linked(copy: WorkingCopy, checkout: Path, given: Iterable[Path]) -> None:
    """In place of `WorkingCopy.refresh`, which takes seconds."""
    copy.root.mkdir(parents=True, exist_ok=True)
    for part in ("dvc.yaml", "stages", "pipeline", "tvqrap", "data", "models"):
        if not (copy.root / part).exists():
            (copy.root / part).symlink_to(checkout / part)


def test_a_result_of_photographs_that_changed_is_not_kept(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, runs = small()
    photos = checkout / "data/photos"
    photos.unlink()
    photos.mkdir()

    def made_up(copy: WorkingCopy, target: Target, run: Run) -> dict[str, Path]:
        (photos / f"{run.seed}.jpg").touch()
        return {SCORES: scores_file(checkout, {"psnr_y": 20.0})}

    monkeypatch.setattr(WorkingCopy, "refresh", linked)
    monkeypatch.setattr(running, "run_point", made_up)
    assert running.run_recipe("small", recipe, runs[:1], SERIAL) == ["wide seed 1"]
    assert "photographs, given weights or the code changed" in capsys.readouterr().out
    assert running.run_recipe("small", recipe, runs[:1], SERIAL) == []


def test_finished_runs_stay_and_failed_ones_are_named(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, runs = small()
    ran: list[str] = []
    failing = {"narrow 2"}

    def made_up(copy: WorkingCopy, target: Target, run: Run) -> dict[str, Path]:
        ran.append(f"{run.point} {run.seed}")
        if ran[-1] in failing:
            raise UserError("train_tokenizer: no luck (see log)")
        return {SCORES: scores_file(checkout, {"psnr_y": 20.0})}

    monkeypatch.setattr(WorkingCopy, "refresh", linked)
    monkeypatch.setattr(running, "run_point", made_up)
    assert running.run_recipe("small", recipe, runs[:4], SERIAL) == ["narrow seed 2"]
    assert ran == ["wide 1", "narrow 1", "wide 2", "narrow 2"]
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert re.search(r"wide seed 1: done in 0:\S+ \(1 of 4, about 0:\S+ left\)", lines[1])
    assert "narrow seed 2: failed: train_tokenizer: no luck (see log);" in lines[4]
    failing.clear()
    ran.clear()
    assert running.run_recipe("small", recipe, runs, SERIAL) == []
    assert ran == ["narrow 2", "wide 3", "narrow 3"]
    assert "6 runs, 3 of them finished before" in capsys.readouterr().out


@pytest.mark.slow
def test_killed_runs_resume_and_points_share_stages(tmp_path: Path) -> None:
    """Killed in the middle of a stage it goes on from there; points share what they can."""
    checkout = make_checkout(tmp_path)
    (tmp_path / "two.yaml").write_text(SLOW)
    (tmp_path / "quick.yaml").write_text(SMALL)
    command = [sys.executable, "-m", "stages.experiments", "run", "two.yaml"]
    log = tmp_path / EXPERIMENTS / "two.log"
    process = subprocess.Popen(command, cwd=tmp_path, env=checkout.environment)
    try:
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob(f"{EXPERIMENTS}/two/.scratch/train_tokenizer-*/step-*.pt")):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        process.kill()
        process.wait()
    checkout.run(*command)
    said = log.read_text()
    assert "train_tokenizer: resumes after step" in said
    started = [line.split("'")[1] for line in said.splitlines() if line.startswith("Running")]
    assert started == [*STAGES[:2], *STAGES[1:], *STAGES[4:]], "the second point starts at RAP"
    again = checkout.run(*command).stdout
    assert "2 runs, 2 of them finished before" in again
    table = checkout.run(sys.executable, "-m", "stages.experiments", "collect", "two.yaml").stdout
    assert "missing" not in table and "| rap |" in table
    # A tokenizer alone, from the same pairs in another working copy; its scores are those of the
    # run of all stages.
    checkout.run(
        sys.executable, "-m", "stages.experiments", "run", "quick.yaml", "--points", "wide",
        "--seeds", "1",
    )  # fmt: skip
    quick = (tmp_path / EXPERIMENTS / "quick.log").read_text()
    assert "Stage 'train_tokenizer' is cached" in quick and "Running stage" not in quick
    scores = [
        json.loads(path.read_text())["scores"]["tokenizer"]["psnr_y"]["mean"]
        for path in tmp_path.glob(f"{EXPERIMENTS}/results/*/{SCORES}")
    ]
    assert len(scores) == 3
    assert max(scores) - min(scores) < 0.01
    status = checkout.run("git", "status", "--short", "params.yaml", "dvc.lock").stdout
    assert status == "", "the checkout's own params and lock are as they were"


@pytest.mark.slow
def test_points_side_by_side_share_the_pairs(tmp_path: Path) -> None:
    """Each has a working copy of its own."""
    checkout = make_checkout(tmp_path)
    (tmp_path / "beside.yaml").write_text(SMALL.replace("[1, 2, 3]", "[2]"))
    command = [sys.executable, "-m", "stages.experiments", "run", "beside.yaml"]
    said = checkout.run("env", "TVQRAP_EXECUTOR=processes", "TVQRAP_WORKERS=2", *command).stdout
    assert "2 runs, 0 of them finished before" in said and said.count(": done in") == 2
    logs = [log.read_text() for log in sorted((tmp_path / EXPERIMENTS).glob("beside*.log"))]
    assert len(logs) == 2
    for stage, times in (("make_pairs", 1), ("train_tokenizer", 2)):
        assert sum(log.count(f"Running stage '{stage}'") for log in logs) == times
