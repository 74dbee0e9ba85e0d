"""A copy of the checkout's code in which DVC runs the points of a recipe, one after the other.

The copy has its own params, workspace and dvc.lock, and shares the checkout's DVC cache. The
run-cache returns outputs that any recipe or the checkout has made before. There is one copy per
recipe; its scratch folder keeps the unfinished work of a stage for the next run.
"""

import ctypes
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from pipeline.storage.lock import file_lock, wait_until_free
from stages.params import PARAMS
from stages.runner.resume import VARIABLE
from stages.runner.stage import SCRATCH
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError

COPIED = ("dvc.yaml", ".dvcignore", ".dvc/config", "pipeline", "stages", "tvqrap")
PARENT_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class WorkingCopy:
    """The copy in `root`; its log lies beside it."""

    root: Path

    @property
    def log(self) -> Path:
        """File with the output of DVC and the stages."""
        return self.root.with_suffix(".log")

    def alone(self) -> AbstractContextManager[object]:
        """Locks the copy for this process. Raises `UserError` where another process holds it."""
        return file_lock(self.root.with_suffix(".copy.lock"), self.root.name)

    def refresh(self, checkout: Path, given: Iterable[Path]) -> None:
        """Updates the copy's code from the checkout, and links what else it is `given`.

        Equal files are not written. Photographs, weights and such are relative to the checkout;
        absolute paths and those of the code need no link.
        """
        for part in COPIED:
            wanted, present = _files(checkout / part), _files(self.root / part)
            for name in present.keys() - wanted.keys():
                present[name].unlink()
            for name, path in wanted.items():
                content = path.read_bytes()
                if name not in present or present[name].read_bytes() != content:
                    write_atomic(self.root / part / name, content)
                    shutil.copymode(path, self.root / part / name)
        for path in sorted(given):  # folders before what lies in them
            if not path.is_absolute() and path.parts[0] not in COPIED:
                _link(self.root, path, (checkout / path).resolve())
        cache = _output([sys.executable, "-m", "dvc", "cache", "dir"], checkout)
        # With git, DVC would find the repository around the copy, the checkout's, and change its
        # index.
        config = f"[core]\n    no_scm = true\n    autostage = false\n[cache]\n    dir = {cache}\n"
        write_atomic(self.root / ".dvc" / "config.local", config)

    def wait_for_stages(self) -> None:
        """Waits until the stage of a killed run has saved its work."""
        for lock in (self.root / SCRATCH).glob("*.lock"):

            def say(holder: str, stage: str = lock.stem) -> None:
                print(
                    f"{self.root.name}: waiting for {stage} (process {holder}) of a run that was "
                    "stopped to save its work",
                    flush=True,
                )

            wait_until_free(lock, say)

    def set_params(self, text: str) -> None:
        """Writes the copy's params.yaml."""
        write_atomic(self.root / PARAMS, text)

    def run(self, module: str, *arguments: str, **environment: str) -> None:
        """Runs `python -m module` in the copy and adds its output to the log.

        `environment` is set beside this process's. It ends with this process. Raises `UserError`
        with the line that names the fault where it fails.
        """
        command = [sys.executable, "-m", module, *arguments]
        with self.log.open("ab") as log:
            start = log.tell()
            process = subprocess.Popen(
                command,
                cwd=self.root,
                # The next point must not resume the training of a point that failed.
                env={**os.environ, **environment, VARIABLE: "same"},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                preexec_fn=_end_with_parent,
            )
            try:
                code = process.wait()
            except KeyboardInterrupt:
                # The terminal signals the stage too. It saves its work, then DVC ends.
                process.wait()
                raise
        if code:
            with self.log.open("rb") as log:
                log.seek(start)
                output = log.read().decode(errors="replace")
            raise UserError(f"{_complaint(output)} (see {self.log})")


def _files(part: Path) -> dict[str, Path]:
    """Files by their path below `part`; `part` itself where it is a file."""
    if part.is_file():
        return {"": part}
    return {
        path.relative_to(part).as_posix(): path
        for path in part.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def _link(root: Path, path: Path, target: Path) -> None:
    """Links `path` in the folder `root`, in place of links that earlier runs left on its way."""
    link = root / path
    if link.resolve() == target:  # by itself, or by a folder above it
        return
    for place in (link, *(root / above for above in path.parents[:-1])):
        if place.is_symlink():
            place.unlink()
    if link.is_dir():
        shutil.rmtree(link)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)


def _output(command: list[str], folder: Path) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{' '.join(command[1:])}: {_complaint(done.stderr)}")
    return done.stdout.strip()


def _end_with_parent() -> None:
    """Asks the kernel for SIGTERM when the parent ends. DVC then ends, and its stage with it."""
    ctypes.CDLL(None).prctl(PARENT_DEATH_SIGNAL, signal.SIGTERM)


def _complaint(output: str) -> str:
    """The line of an output that names the fault: the one before DVC's own lines, else the last."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    first = next((i for i, line in enumerate(lines) if line.startswith("ERROR:")), len(lines))
    return (lines[first - 1] if first else lines[0]) if lines else "failed without a message"
