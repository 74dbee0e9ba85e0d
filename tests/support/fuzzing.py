"""Puts damaged inputs through the project's code, in a process that is watched.

`TVQRAP_FUZZ_FACTOR` multiplies the number of inputs of each test, and `TVQRAP_FUZZ_SEED` chooses
others. An input follows from the seed, the test's name and its number alone.
"""

import faulthandler
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any

import psutil
import pytest
import torch
from click.testing import Result

from tests.support.commands import run
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

FACTOR = float(os.environ.get("TVQRAP_FUZZ_FACTOR", "1"))
SEED = os.environ.get("TVQRAP_FUZZ_SEED", "0")

CPU_SECONDS = 10
"""Processor time that an input may take."""
WALL_SECONDS = 120
"""Time after which an input counts as one that waits for ever, on however busy a machine."""
MEMORY = 4 * 2**30
"""Bytes of address space that an input may take."""
MOST_FAULTS = 20
"""Faults after which a test ends."""

Files = Mapping[str, bytes]
"""Content by relative path."""

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_CHANGES = ("os.remove", "os.rename", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.chmod")
_FORBIDDEN = ("subprocess.Popen", "os.exec", "os.posix_spawn", "os.system", "socket.connect")


@dataclass(frozen=True)
class Trial:
    """What is done with each input of a test."""

    name: str
    make: Callable[[Random], Files]
    """The damaged files."""
    use: Callable[[Path, Path], None]
    """Uses the folder with these files; may write to the second folder alone, which is empty.

    UserError is how it should end; any other exception is a fault.
    """


def assert_no_fault(trial: Trial, folder: Path, count: int) -> None:
    """Tries `count` inputs (times `FACTOR`) in `folder`, and asserts that none showed a fault."""
    count = max(1, round(count * FACTOR))
    torch.set_num_threads(1)  # a process that is forked cannot use its parent's threads
    trial.make(Random(0))  # what is made once is made here, for all processes
    faults: list[str] = []
    number = 0
    while number < count and len(faults) < MOST_FAULTS:
        number, fault = _watched(trial, folder, number, count)
        if fault:
            kept = folder / "faults" / str(number)
            shutil.copytree(folder / "input", kept, dirs_exist_ok=True)
            faults.append(f"{trial.name} {number} (seed {SEED}), kept in {kept}: {fault}")
        number += 1
    if faults:
        pytest.fail(f"{len(faults)} faults:\n" + "\n".join(faults), pytrace=False)


def _watched(trial: Trial, folder: Path, start: int, count: int) -> tuple[int, str]:
    """Tries inputs from `start` on in a new process; (number, fault) of the first fault or last."""
    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_try_all, args=(trial, folder, start, count, theirs))
    process.start()
    theirs.close()
    number = start
    try:
        while True:
            hung = _hung(process.pid or 0, ours)
            if hung:
                stack = (folder / "stack").read_text()
                return number, f"{hung}\n{stack}"
            try:
                number, fault = ours.recv()
            except EOFError:
                process.join()
                if process.exitcode == 0:
                    return count, ""
                return number, f"its process ended with {process.exitcode}"
            if fault:
                return number, fault
    finally:
        process.kill()
        process.join()
        ours.close()


def _hung(process: int, pipe: Connection) -> str:
    """Waits for a message; how an input hangs if it does, else empty."""
    watched = psutil.Process(process)
    began, before = time.monotonic(), _cpu(watched)
    while not pipe.poll(0.5):
        if _cpu(watched) - before > CPU_SECONDS or time.monotonic() - began > WALL_SECONDS:
            os.kill(process, signal.SIGUSR1)  # faulthandler writes the stack
            time.sleep(0.5)
            return f"hangs after {_cpu(watched) - before:.0f} s of processor time"
    return ""


def _cpu(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _try_all(trial: Trial, folder: Path, start: int, count: int, pipe: Connection) -> None:
    """Body of the process: tries inputs and sends each number before and after it is tried."""
    given, out, temporary = (folder / name for name in ("input", "out", "tmp"))
    with (folder / "stack").open("w") as stack:
        faulthandler.register(signal.SIGUSR1, stack, all_threads=False)
        _limit_memory()
        os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
        sys.dont_write_bytecode = True
        watch = _Watch((given, out, temporary))
        for number in range(start, count):
            for each in (given, out, temporary):
                shutil.rmtree(each, ignore_errors=True)
                each.mkdir(parents=True)
            files = trial.make(Random(f"{SEED} {trial.name} {number}"))
            for name, content in files.items():
                path = given / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            pipe.send((number, ""))
            with watch:
                fault = _fault(trial, given, out)
            fault = fault or _changed_input(given, files) or "; ".join(watch.noted)
            pipe.send((number, fault))
            if fault:
                break
    pipe.close()
    os._exit(0)


def _fault(trial: Trial, given: Path, out: Path) -> str:
    try:
        trial.use(given, out)
    except UserError as error:
        return complaint(str(error))
    except BaseException:
        return traceback.format_exc()
    return ""


def complaint(message: str) -> str:
    """What is wrong with the text of an error for people; empty where nothing is."""
    if not message.strip() or len(message) > 20_000:
        return f"an error of {len(message)} characters"
    if printable(message) != printable(message).strip("\n") or "Traceback" in message:
        return f"no error in one line: {message!r}"
    return ""


def _changed_input(given: Path, files: Files) -> str:
    found = {
        path.relative_to(given).as_posix(): path.read_bytes()
        for path in given.rglob("*")
        if path.is_file()
    }
    return "" if found == dict(files) else "its input was changed"


def _limit_memory() -> None:
    used = psutil.Process().memory_info().vms
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


class _Watch:
    """Notes what this process changes elsewhere, starts, or connects to within a `with` block."""

    def __init__(self, allowed: tuple[Path, ...]) -> None:
        self.noted: list[str] = []
        self._places = tuple(f"{os.path.realpath(path)}/" for path in allowed)
        self._armed = False
        sys.addaudithook(self._hook)  # stays until the process ends

    def __enter__(self) -> None:
        self._armed = True

    def __exit__(self, *_: object) -> None:
        self._armed = False

    def _hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self._armed:
            return
        if event == "open":
            path, mode, flags = arguments
            writes = flags & _WRITING or any(letter in (mode or "") for letter in "wxa+")
            if writes and not self._inside(path, -1):
                self.noted.append(f"wrote {path!r}")
        elif event in _CHANGES:
            path, folder = arguments[0], arguments[-1]
            if not self._inside(path, folder if isinstance(folder, int) else -1):
                self.noted.append(f"{event} {arguments!r}")
        elif event in _FORBIDDEN:
            self.noted.append(f"{event} {arguments[:1]!r}")

    def _inside(self, path: Any, folder: int) -> bool:
        if not isinstance(path, str | bytes | os.PathLike):
            return True  # a descriptor, opened before
        name = os.fsdecode(path)
        if folder != -1 and not name.startswith("/"):
            name = f"/proc/self/fd/{folder}/{name}"
        real = os.path.realpath(name)
        return real == os.devnull or f"{real}/".startswith(self._places)


def command(*words: object) -> Result:
    """Runs `tvqrap-cli` in this process; asserts that it ends as a command should."""
    done = run(*words)
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    assert done.exit_code in (0, 1, 2), done.exit_code
    assert "Traceback" not in done.output, done.output
    for line in done.output.splitlines():
        assert printable(line) == line, line
    if done.exit_code:
        assert done.output.strip(), "failed without a word"
    return done
