"""A finished training is gone on with where that ends as a fresh one would."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.runner.resume import find_start, keep_final, may_change
from stages.runner.stage import Stage
from tests.support.states import assert_close_states
from tests.support.training import (
    MONITORING,
    OPTIMISER,
    batches,
    predictor_task,
    stopping,
    tokenizer_task,
)
from tvqrap.runtime.errors import UsageError
from tvqrap.runtime.signals import Interrupted
from tvqrap.training.checkpoint import checkpoints
from tvqrap.training.distributed import ALONE
from tvqrap.training.loop import train

pytestmark = pytest.mark.usefixtures("small_distance")

CONSTANT = {**OPTIMISER, "lr_schedule": "constant"}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("TVQRAP_RESUME", raising=False)


def settings_for(steps: int, **changes: Any) -> dict[str, Any]:
    return {"phases": [{"set": "train", "batch_size": 2, "steps": steps}], **changes}


def stage_of(section: str, task: Any, seed: int = 1, **digests: Any) -> Stage:
    values = {"seed": seed, section: task.settings.model_dump(mode="json")}
    scratch = Path(f".scratch/train-{abs(hash(str((values, digests))))}")
    scratch.mkdir(parents=True, exist_ok=True)
    return Stage("train", None, "", scratch, values, **digests)  # type: ignore[arg-type]


def run(
    stage: Stage, task: Any, section: str, steps: int, stop_at: int | None = None
) -> tuple[Any, Any]:
    """Trains as a stage does; returns the state and the changes.

    With `stop_at` it is interrupted after that step (from 0).
    """
    record = find_start(stage, task.settings, section, ALONE)
    train(
        task,
        title="train",
        steps=steps,
        batches=batches if stop_at is None else stopping(stop_at),
        monitoring=task.settings.monitoring,
        folder=stage.scratch,
        record=record,
    )
    keep_final(stage, section)
    shutil.rmtree(stage.scratch)
    return task.state(), record.changes


def predictor(steps: int, **changes: Any) -> Any:
    task = predictor_task(**settings_for(steps, optimiser={**CONSTANT, **changes}))
    return run(stage_of("predictor", task), task, "predictor", steps)[0]


def test_more_steps_go_on_and_end_as_a_fresh_run(capsys: pytest.CaptureFixture[str]) -> None:
    predictor(3)
    longer = predictor(5)
    assert "resumes after step 3" in capsys.readouterr().out
    shutil.rmtree(".scratch")
    assert_close_states(longer, predictor(5), 0)
    assert "resumes" not in capsys.readouterr().out


def test_the_same_steps_run_again(capsys: pytest.CaptureFixture[str]) -> None:
    """`dvc repro -f` asks for a run, not for the result of the one before."""
    predictor(3)
    predictor(3)
    assert capsys.readouterr().out.count("train: step 3") == 2
    assert len(list(Path(".scratch/finished").glob("*/*.pt"))) == 1


@pytest.mark.parametrize(
    ("steps", "changes", "reason"),
    [
        (
            (3, 5),
            {"lr_schedule": "cosine"},
            "it was run for 3 steps, which its learning rates followed (optimiser.lr_schedule "
            "cosine); TVQRAP_RESUME=finished goes on from there",
        ),
        ((5, 3), {}, "it was run for 5 steps, more than it now has"),
    ],
)
def test_otherwise_it_starts_over_and_says_why(
    steps: tuple[int, int], changes: Any, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for count in steps:
        predictor(count, **changes)
    out = capsys.readouterr().out
    assert f"train: starts over; {reason}" in out and "resumes" not in out


def test_another_seed_has_nothing_to_go_on_with(capsys: pytest.CaptureFixture[str]) -> None:
    predictor(3)
    predictor(5, ema_decay=0.5)
    assert "resumes" not in capsys.readouterr().out


def test_a_revival_left_out_at_the_end_matters(capsys: pytest.CaptureFixture[str]) -> None:
    def tokenizer(steps: int) -> None:
        values = {
            "steps": steps,
            "optimiser": CONSTANT,
            "codebook_life": {"vq_warmup_steps": 0, "revive_every": 2},
        }
        task = tokenizer_task(**values)
        run(stage_of("tokenizer", task), task, "tokenizer", steps)

    tokenizer(3)
    tokenizer(4)
    assert "resumes after step 3" in capsys.readouterr().out
    tokenizer(5)
    assert "no entry was revived" in capsys.readouterr().out
    assert torch.load(next(Path(".scratch/finished").glob("*/*.pt")))["task"]


def test_a_kill_while_the_checkpoint_is_fetched_loses_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(source: Path, target: Path) -> None:
        Path(target).write_bytes(source.read_bytes()[:100])
        raise KeyboardInterrupt

    predictor(3)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "copy", killed)
        predictor(5)
    predictor(5)
    assert "resumes after step 3" in capsys.readouterr().out


def changed(stop_at: int | None = None, steps: int = 6, **changes: Any) -> Any:
    """A training of stage 2 with changed settings, seed or inputs; returns the changes."""
    other = {key: changes.pop(key) for key in ("seed", "data", "code") if key in changes}
    settings = settings_for(steps, optimiser={**CONSTANT, **changes.pop("optimiser", {})})
    task = predictor_task(**settings, **changes)
    stage = stage_of("predictor", task, **other)
    if stop_at is None:
        return run(stage, task, "predictor", steps)[1]
    with pytest.raises(Interrupted):
        run(stage, task, "predictor", steps, stop_at)
    return None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"optimiser": {"learning_rate": 2e-3}},
            "predictor.optimiser.learning_rate 0.001, now 0.002",
        ),
        ({"steps": 8}, "predictor.phases.0.steps 6, now 8"),
        ({"steps": 2}, "predictor.phases.0.steps 6, now 2"),
        (
            {"loss_weights": {"structure": 0.5, "code": 0.5}},
            "predictor.loss_weights.structure 1.0, now 0.5",
        ),
        ({"code": {"tvqrap/training": "b"}}, "code of tvqrap/training"),
    ],
)
def test_an_unfinished_training_goes_on_with_changes_and_says_so(
    changes: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    changed(stop_at=3, code={"tvqrap/training": "a"})
    (before,) = Path(".scratch").glob("train-*")
    (change,) = changed(**{"code": {"tvqrap/training": "a"}, **changes})
    out = capsys.readouterr().out
    assert f"train: goes on with {before.name} at step 4, changed: {words}. To start" in out
    assert "To start at step 0 instead: TVQRAP_RESUME=same" in out
    assert "resumes after step 4" in out
    assert ("ends here, as 2 steps" in out) == ("steps 6, now 2" in words)
    assert not list(Path(".scratch").glob("train-*")), "the folder was taken over, then removed"
    assert change["step"] == 4 and (change["params"] or change["code"])


def test_a_change_is_reported_again_until_a_checkpoint_has_it(
    capsys: pytest.CaptureFixture[str],
) -> None:
    changed(stop_at=3)
    changed(stop_at=4, optimiser={"learning_rate": 2e-3})
    changed(optimiser={"learning_rate": 2e-3})
    assert capsys.readouterr().out.count("goes on with") == 1, "then it resumes as its own"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"seed": 2}, "seed 1, now 2"),
        ({"data": {"data/pairs/train": "b"}}, "content of data/pairs/train"),
        (
            {"phases": [{"set": "other", "batch_size": 2, "steps": 6}]},
            "predictor.phases.0.sets train, now other",
        ),
    ],
)
def test_other_data_or_another_seed_start_over_and_say_so(
    changes: Any, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data = {"data": {"data/pairs/train": "a"}}
    changed(stop_at=3, **data)
    (before,) = Path(".scratch").glob("train-*")
    given = {**data, **changes}
    settings = settings_for(6, optimiser=CONSTANT)
    settings |= {"phases": given.pop("phases", settings["phases"])}
    task = predictor_task(**settings)
    run(stage_of("predictor", task, **given), task, "predictor", 6)
    out = capsys.readouterr().out
    assert f"train: starts at step 0 beside {before.name} (step 4)" in out
    assert words in out and "resumes" not in out
    assert before.exists(), "it is never removed unasked"


def test_starting_over_by_request_leaves_the_other_training(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    changed(stop_at=3)
    monkeypatch.setenv("TVQRAP_RESUME", "same")
    changed(optimiser={"learning_rate": 2e-3})
    assert "starts at step 0" in capsys.readouterr().out
    assert len(list(Path(".scratch").glob("train-*"))) == 1
    changed()
    assert "resumes after step 4" in capsys.readouterr().out
    monkeypatch.setenv("TVQRAP_RESUME", "no")
    with pytest.raises(UsageError, match="TVQRAP_RESUME is 'no', expected one of changed, "):
        changed()


def test_a_finished_training_goes_on_with_changes_by_request(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = {"optimiser": {"lr_schedule": "cosine"}, "code": {"tvqrap/training": "a"}}
    changed(steps=3, **first)
    (before,) = Path(".scratch/finished").glob("train-*")
    monkeypatch.setenv("TVQRAP_RESUME", "finished")
    changed(stop_at=4, steps=6, **first)
    out = capsys.readouterr().out
    assert f"train: goes on with finished/{before.name} at step 3, changed: " in out
    assert "predictor.phases.0.steps 3, now 6. To start" in out and "resumes after step 3" in out
    assert checkpoints(before), "it stays until the longer one has finished"
    changes = changed(steps=7, optimiser={"learning_rate": 2e-3}, code={"tvqrap/training": "b"})
    out = capsys.readouterr().out
    assert "goes on with train-" in out and "at step 5" in out, "the unfinished one comes first"
    assert [change["step"] for change in changes] == [3, 5] and not before.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"optimiser": {"learning_rate": 2e-3}}, "it has 3 steps, no fewer than asked for"),
        ({"steps": 5, "seed": 2}, "seed 1, now 2"),
    ],
)
def test_a_finished_training_that_cannot_go_on_starts_over_and_says_so(
    changes: Any,
    words: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    changed(steps=3)
    (before,) = Path(".scratch/finished").glob("train-*")
    monkeypatch.setenv("TVQRAP_RESUME", "finished")
    assert changed(**{"steps": 3, **changes}) == []
    out = capsys.readouterr().out
    assert f"starts at step 0 beside finished/{before.name} (step 3)" in out
    assert words in out and "resumes" not in out


def test_no_steps_take_over_nothing() -> None:
    """They hand on the weights that the stage was given."""
    changed(stop_at=3)
    task = predictor_task(**settings_for(0, optimiser=CONSTANT))
    stage = stage_of("predictor", task)
    find_start(stage, task.settings, "predictor", ALONE)
    assert not list(stage.scratch.iterdir())


def test_milestones_outlive_the_training_and_the_next() -> None:
    monitoring = {**MONITORING, "checkpoint_every": 3}
    for rate in (1e-3, 2e-3, 3e-3):
        changed(monitoring={**monitoring, "keep_every": 2}, optimiser={"learning_rate": rate})
    found = sorted(path.name for path in Path(".scratch/finished").glob("*/step-*.pt"))
    assert found == [f"step-00000000{step}.pt" for step in (2, 2, 2, 4, 4, 4, 6, 6, 6)]


def test_params_that_may_change() -> None:
    yes = (
        "compute.precision",
        "workers",
        "rap.steps",
        "predictor.phases.1.steps",
        "rap.image.perceptual.weight",
        "tokenizer.codebook_life.revive_every",
        "rap.teacher.pixels",
        "rap.decoder_lr_factor",
        "predictor.optimiser.lr_milestones",
        "tokenizer.image.adversarial.warmup_steps",
        "tokenizer.grad_accum_steps",
    )
    no = (
        "seed",
        "width",
        "codebook",
        "init",
        "a_new_one",
        "rap.set",
        "rap.sets.teacher",
        "predictor.phases.0.sets.steps",
        "predictor.phases.1.batch_size",
        "tokenizer.codebook_life.vq_warmup_steps",
        "rap.train_decoder",
        "rap.assignment",
        "rap.image.adversarial.width",
        "rap.image.adversarial.discriminator",
    )
    with_gan = {"rap.image.adversarial.weight": 0.5}
    assert all(may_change(key, with_gan) for key in yes)
    assert not any(may_change(key, with_gan) for key in no)
    without = {"rap.image.adversarial.weight": 0.0}
    assert may_change("rap.image.adversarial.width", without), "there is no discriminator yet"
