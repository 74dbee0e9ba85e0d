"""A finished training is gone on with where that ends as a fresh one would."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from stages.runner.resume import keep_final, resume_from_shorter
from stages.runner.stage import Stage
from tests.support.states import assert_close_states
from tests.support.training import batch, predictor_task, tokenizer_task
from tvqrap.training.distributed import ALONE
from tvqrap.training.loop import train

CONSTANT = {
    "learning_rate": 1e-3,
    "betas": [0.5, 0.9],
    "warmup_steps": 2,
    "lr_schedule": "constant",
    "grad_clip_norm": 1.0,
    "ema_decay": 0.9,
}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings_for(steps: int, **changes: Any) -> dict[str, Any]:
    return {"phases": [{"set": "train", "batch_size": 2, "steps": steps}], **changes}


def stage_of(section: str, values: Any) -> Stage:
    scratch = Path(f".scratch/{section}-{abs(hash(str(values)))}")
    shutil.rmtree(scratch, ignore_errors=True)
    return Stage("train", None, "", scratch, {section: values}, ())  # type: ignore[arg-type]


def run(stage: Stage, task: Any, section: str, steps: int) -> Any:
    def batches(step: int) -> Any:
        while True:
            yield batch(step)
            step += 1

    resume_from_shorter(stage, task.settings, section, ALONE)
    train(
        task,
        title="train",
        steps=steps,
        batches=batches,
        monitoring=task.settings.monitoring,
        folder=stage.scratch,
    )
    keep_final(stage, section)
    return task.state()


def predictor(steps: int, **changes: Any) -> Any:
    values = settings_for(steps, optimiser={**CONSTANT, **changes})
    task = predictor_task(**values)
    return run(stage_of("predictor", values), task, "predictor", steps)


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
            "it was run for 3 steps, which its learning rates followed",
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
        run(stage_of("tokenizer", values), tokenizer_task(**values), "tokenizer", steps)

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
