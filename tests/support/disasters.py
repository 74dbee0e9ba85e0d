"""What happens to programs: they are killed, the disk takes nothing more, or it is gone."""

import multiprocessing
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import torch

from tests.support.fuzzing import SEED

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.rename", "os.mkdir", "os.link", "os.remove")


def apart(work: Callable[[], None], seconds: float | None = None) -> int | None:
    """Runs `work` in a process of its own and returns its exit code.

    It is killed after `seconds`; None where it was.
    """
    torch.set_num_threads(1)  # a process that is forked cannot use its parent's threads
    process = multiprocessing.get_context("fork").Process(target=work)
    process.start()
    process.join(seconds)
    if not process.is_alive():
        return process.exitcode
    process.kill()
    process.join()
    return None


def killed_at_random(name: str, work: Callable[[], None], kills: int, seconds: float) -> None:
    """Kills `work` at moments up to `seconds` after its start, then lets it end.

    The moments follow from the name and the seed. A run that ends before its moment is one of them.
    """
    rng = Random(f"{SEED} {name}")
    for _ in range(kills):
        ended = apart(work, rng.uniform(0, seconds))
        assert ended in (None, 0), f"a run after a kill ended with {ended}"
    assert apart(work) == 0


def timed(work: Callable[[], None]) -> float:
    """Runs `work` in a process of its own; the seconds it took."""
    start = time.monotonic()
    assert apart(work) == 0
    return time.monotonic() - start


def tree(folder: Path) -> dict[str, bytes]:
    """Content of all files below a folder, by path."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def full_disk(size: int) -> None:
    """Lets no file of this process grow beyond `size` bytes from now on."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def refuse_changes(folder: Path, error: int) -> None:
    """Lets every change below `folder` that this process tries from now on fail with an errno."""

    def refuse(path: str) -> None:
        raise OSError(error, os.strerror(error), path)

    _before_changes(folder, refuse)


def vanish(folder: Path, moment: int) -> Callable[[], int]:
    """Moves a folder away at a change below it that this process tries, counted from 0.

    Returns the number of changes so far. The folder is then `gone(folder)`.
    """
    count = -1

    def move(_: str) -> None:
        nonlocal count
        count += 1
        if count == moment:
            subprocess.run(["mv", folder, gone(folder)], check=True)

    _before_changes(folder, move)
    return lambda: count + 1


def gone(folder: Path) -> Path:
    """Where a folder is that `vanish` moved away."""
    return folder.with_name(f"{folder.name} gone")


def _before_changes(folder: Path, act: Callable[[str], None]) -> None:
    """Calls `act` with the path of each file below `folder` that this process is about to change.

    From now on until the process ends.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        path = arguments[0] if arguments else None
        if event == "open":
            mode, flags = arguments[1:]
            if not (flags & _WRITING or any(letter in (mode or "") for letter in "wxa+")):
                return
        elif event not in _CHANGES:
            return
        if isinstance(path, str | os.PathLike):
            real = os.path.realpath(path)
            if Path(real).is_relative_to(folder):
                act(os.fspath(path))

    sys.addaudithook(hook)
