"""Checkpoints: written by a thread to a temporary file and renamed; the last two are kept."""

import hashlib
import os
import re
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

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


def is_milestone(step: int, keep_every: int) -> bool:
    """Whether the checkpoint after `step` steps is kept for good; `keep_every` 0: none is."""
    return keep_every > 0 and step % keep_every == 0


def save_checkpoint(folder: Path, step: int, state: Mapping[str, Any], keep_every: int = 0) -> None:
    """Saves the state after `step` steps, then deletes older checkpoints but one and milestones.

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
    for done, old in checkpoints(folder)[:-KEPT]:
        if not is_milestone(done, keep_every):
            old.unlink()


class CheckpointWriter:
    """Writes a folder's checkpoints on a thread of its own, one at a time, in order."""

    def __init__(self, folder: Path, keep_every: int) -> None:
        """`keep_every`: steps between milestones, the checkpoints that are kept for good."""
        self.folder = folder
        self.keep_every = keep_every
        self._thread = ThreadPoolExecutor(1, "checkpoints")
        self._writing: Future[None] | None = None

    def save(self, step: int, state: Mapping[str, Any]) -> None:
        """Copies the state to the CPU's memory and starts to write it.

        Waits for the checkpoint before. Raises `UserError` where that one was not written.
        """
        self.wait()
        self._writing = self._thread.submit(
            save_checkpoint, self.folder, step, _copied(state), self.keep_every
        )

    def check(self) -> None:
        """Raises `UserError` where a checkpoint could not be written. Does not wait for it."""
        if self._writing is not None and self._writing.done():
            self.wait()

    def wait(self) -> None:
        """Waits for the checkpoint being written. Raises `UserError` where that failed."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.result()

    def close(self) -> None:
        """Waits for the thread to end; raises nothing."""
        self._thread.shutdown()


def load_checkpoint(folder: Path) -> tuple[int, dict[str, Any]] | None:
    """Loads the newest readable checkpoint as (steps done, state); None if there is none."""
    for step, path in reversed(checkpoints(folder)):
        try:
            return step, torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            print(f"{path}: not readable ({error}); trying the one before", flush=True)
    return None


def read_entry(path: Path, name: str) -> Any:
    """Reads one entry of a checkpoint that holds no tensors, without reading the weights.

    Returns None where the checkpoint lacks the entry or is not readable.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True, mmap=True).get(name)
    except Exception:
        return None


def digest(state: Any) -> str:
    """SHA-256 of the tensors in nested dicts and lists, in their order."""
    found = hashlib.sha256()
    for tensor in _tensors(state):
        values = tensor.detach().cpu().contiguous().reshape(-1)
        found.update(values.view(torch.uint8).numpy().data)
    return found.hexdigest()


def _tensors(state: Any) -> Iterator[Tensor]:
    if isinstance(state, Tensor):
        yield state
    elif isinstance(state, Mapping | list | tuple):
        for each in state.values() if isinstance(state, Mapping) else state:
            yield from _tensors(each)


def _copied(state: Any) -> Any:
    """A copy of nested dicts and lists whose tensors lie in the CPU's memory."""
    if isinstance(state, Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, Mapping):
        return {key: _copied(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(_copied(value) for value in state)
    return state
