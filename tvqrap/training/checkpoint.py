"""Checkpoints: written to a temporary file and renamed; the last two are kept."""

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tvqrap.runtime.errors import UserError

KEPT = 2


def checkpoints(folder: Path) -> list[tuple[int, Path]]:
    """Lists a folder's checkpoints as (steps done, file), the newest last."""
    found = []
    for path in folder.glob("step-*.pt"):
        match = re.fullmatch(r"step-(\d+)\.pt", path.name)
        if match:
            found.append((int(match[1]), path))
    return sorted(found)


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any]) -> None:
    """Saves the state after `step` steps, then deletes older checkpoints but one.

    Raises:
        UserError: It cannot be written; earlier checkpoints stay.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step-{step:09d}.pt"
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except (OSError, RuntimeError) as error:
        temporary.unlink(missing_ok=True)
        raise UserError(f"{path}: checkpoint not written ({error}); the last one is kept") from None
    for _, old in checkpoints(folder)[:-KEPT]:
        old.unlink()


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Loads the newest readable checkpoint as (steps done, state); None if there is none."""
    for step, path in reversed(checkpoints(folder)):
        try:
            return step, torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            print(f"{path}: not readable ({error}); trying the one before", flush=True)
    return None
