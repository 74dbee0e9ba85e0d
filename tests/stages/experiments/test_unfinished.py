"""Unfinished trainings follow their point from one working copy to another, and no other one."""

from pathlib import Path
from typing import Any

import torch

from stages.experiments.unfinished import gather_unfinished, take_unfinished
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


def steps(place: Path) -> dict[str, list[int]]:
    return {
        folder.name: [step for step, _ in checkpoints(folder)]
        for folder in sorted(place.glob("train*"))
    }


def test_a_point_takes_its_trainings_and_leaves_them_to_others(checkout: Path) -> None:
    """The params of a stage can be those of several points, whose data differ."""
    _, (wide, narrow, *_) = small()
    here, there, pool = checkout / "here", checkout / "there", checkout / "pool"
    unfinished(there, "train_tokenizer-wide", 7, dict(wide.values))
    unfinished(there, "train_tokenizer-other-data", 6, dict(wide.values))
    unfinished(here, "train_tokenizer-narrow", 8, dict(narrow.values))
    gather_unfinished([here, there], pool)
    assert not steps(here / SCRATCH) and not steps(there / SCRATCH)
    both = {"train_tokenizer-other-data": [6], "train_tokenizer-wide": [7]}
    take_unfinished(here, pool, wide)
    take_unfinished(there, pool, wide)
    assert steps(here / SCRATCH) == steps(there / SCRATCH) == both
    assert steps(pool) == {"train_tokenizer-narrow": [8], **both}


def test_the_training_that_is_further_on_stays(checkout: Path) -> None:
    _, (wide, *_) = small()
    here, there, pool = checkout / "here", checkout / "there", checkout / "pool"
    unfinished(here, "train_tokenizer-wide", 7, dict(wide.values))
    unfinished(there, "train_tokenizer-wide", 5, dict(wide.values))
    gather_unfinished([here, there, checkout / "absent"], pool)
    assert steps(pool) == {"train_tokenizer-wide": [7]}
    assert not steps(there / SCRATCH)
    unfinished(here, "train_tokenizer-wide", 9, dict(wide.values))
    take_unfinished(here, pool, wide)
    assert steps(here / SCRATCH) == {"train_tokenizer-wide": [9]}
    unfinished(there, "train_tokenizer-wide", 6, dict(wide.values))
    take_unfinished(there, pool, wide)
    assert steps(there / SCRATCH) == {"train_tokenizer-wide": [7]}
