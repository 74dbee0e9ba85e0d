"""Unfinished trainings follow their point from one working copy to another."""

from pathlib import Path
from typing import Any

import torch

from stages.experiments.unfinished import take_unfinished
from stages.runner.resume import flat_params
from stages.runner.stage import SCRATCH
from tests.support.experiments import small
from tvqrap.training.checkpoint import checkpoints


def unfinished(root: Path, name: str, step: int, values: dict[str, Any]) -> Path:
    """A training with the params that the tokenizer's stage declares, on one worker."""
    folder = root / SCRATCH / name
    folder.mkdir(parents=True, exist_ok=True)
    declared = {key: values[key] for key in ("seed", "codebook", "structure", "tokenizer")}
    params = {**dict(flat_params(declared)), "workers": 1}
    record = {"params": params, "data": {}, "code": {}, "changes": []}
    torch.save({"record": record}, folder / f"step-{step:09d}.pt")
    return folder


def steps(root: Path) -> dict[str, list[int]]:
    return {
        folder.name: [step for step, _ in checkpoints(folder)]
        for folder in sorted((root / SCRATCH).glob("train*"))
    }


def test_a_point_takes_its_training_and_no_other(checkout: Path) -> None:
    _, (wide, narrow, *_) = small()
    here, there = checkout / "here", checkout / "there"
    unfinished(there, "train_tokenizer-wide", 7, dict(wide.values))
    unfinished(there, "train_tokenizer-narrow", 8, dict(narrow.values))
    take_unfinished(here, [there], wide)
    assert steps(here) == {"train_tokenizer-wide": [7]}
    assert steps(there) == {"train_tokenizer-narrow": [8]}


def test_the_training_that_is_further_on_stays(checkout: Path) -> None:
    _, (wide, *_) = small()
    here, there = checkout / "here", checkout / "there"
    unfinished(here, "train_tokenizer-wide", 7, dict(wide.values))
    unfinished(there, "train_tokenizer-wide", 5, dict(wide.values))
    take_unfinished(here, [there], wide)
    assert steps(here) == {"train_tokenizer-wide": [7]}
    unfinished(there, "train_tokenizer-wide", 9, dict(wide.values))
    take_unfinished(here, [there, checkout / "absent"], wide)
    assert steps(here) == {"train_tokenizer-wide": [5, 9]}
