"""What every stage does around its own work: checked params, one run at a time, a scratch folder
that survives a kill, errors in one line.

A stage's inputs are what dvc.yaml declares for it, read from there: the params it may touch (any
other raises), and the files and folders whose content, with the values of those params, makes its
fingerprint. The scratch folder is named after the fingerprint, so a stage that was interrupted
goes on only where it is the same stage with the same inputs.
"""

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, cast

import psutil
from ruamel.yaml import YAML

from pipeline.lock import held
from pipeline.shards import MANIFEST, Manifest
from pipeline.storage import Location, location, resolved
from stages.params import PARAMS, Params, load_params
from tvqrap.errors import UserError
from tvqrap.files import write_whole
from tvqrap.training.interruption import Interrupted, stop_requested

PIPELINE = Path("dvc.yaml")
SCRATCH = Path(".scratch")
SCRATCH_KEPT = 3
"""Scratch folders of one stage that stay: interrupted runs of other params may be taken up."""
ORPHAN_CHECK_SECONDS = 1.0
LOCK_SECONDS = 20.0
"""A run waits so long for the one before it: the stage of a dvc that was just killed takes a moment
to save its work."""

_NO_INPUTS = ("__pycache__", "README.md")
"""Names of what says nothing of a folder's content; .dvcignore has what DVC may see of them."""
_NETWORK_KEYS = ("width", "codebook", "texture", "structure")


class UndeclaredParam(Exception):
    """A stage touched a param that dvc.yaml does not declare for it: a fault of the code."""


class _Declared:
    """Params of which a stage sees only those that dvc.yaml declares for it."""

    def __init__(self, params: Params, declared: Sequence[str]) -> None:
        self._params = params
        self._declared = frozenset(declared)

    def __getattr__(self, name: str) -> Any:
        for key in _NETWORK_KEYS if name == "architecture" else (name,):
            if key not in self._declared:
                raise UndeclaredParam(f"{key} is not among the stage's params in {PIPELINE}")
        return getattr(self._params, name)


@dataclass(frozen=True)
class Stage:
    """One run of a stage."""

    name: str
    params: Params
    """Only the keys that dvc.yaml declares for the stage can be read."""
    fingerprint: str
    """SHA-256 (hex) over the declared params' values and the declared inputs' content."""
    scratch: Path
    """Folder for unfinished work; its name follows from the fingerprint."""
    values: Mapping[str, Any] = field(default_factory=dict)
    """The declared params' values, as the fingerprint has them."""
    inputs: Sequence[Path] = ()
    """The declared inputs."""
    outs: Sequence[Path] = ()
    """Outputs of all stages."""

    def publish(self, source: Path, out: Path) -> None:
        """Moves finished work to its place in the checkout, which it replaces."""
        out.parent.mkdir(parents=True, exist_ok=True)
        if out.is_dir():
            shutil.rmtree(out)
        else:
            out.unlink(missing_ok=True)
        shutil.move(source, out)

    def work(self, storage: str | None) -> Location:
        """Where this run makes its sets: its scratch folder, or a folder of that name in `storage`.

        Each fingerprint has one of its own: sets of other params, inputs or code stay as they are.

        Raises `UserError` where the storage lies in what stages and dvc themselves empty.
        """
        if storage is None:
            return self.scratch
        place = resolved(location(storage))
        for emptied in (SCRATCH, *self.outs):
            if isinstance(place, Path) and place.is_relative_to(emptied.resolve()):
                raise UserError(
                    f"storage {storage}: lies in {emptied}, which is emptied before it is written, "
                    "expected a folder elsewhere"
                )
        return place / self.scratch.name

    def outlasting(self, name: str, storage: str | None) -> Location:
        """A folder for what outlives the stage and its scratch folder, such as logs.

        Beside the scratch folders, or with the sets in `storage`.
        """
        if storage is None:
            return self.scratch.parent / name / self.scratch.name
        return self.work(storage) / name

    def refer_to(self, manifest: Manifest, work: Location) -> None:
        """Leaves a set's manifest in the scratch folder; one made elsewhere says where it is."""
        if work != self.scratch:
            replace(manifest, location=str(work / manifest.set)).save(self.scratch / manifest.set)

    def publish_sets(
        self, names: Iterable[str], out: Path, *, beside: Mapping[str, str] | None = None
    ) -> None:
        """Moves finished sets from the scratch folder to `out`, all at once.

        `beside` are text files to lie beside them, by name.

        One by one, a kill between two of them would lose those already there: dvc empties `out`
        before the next run.
        """
        together = self.scratch / "published"
        together.mkdir(exist_ok=True)
        for name, text in (beside or {}).items():
            write_whole(together / name, text)
        for name in names:
            if not (together / name).exists():
                (self.scratch / name).rename(together / name)
        self.publish(together, out)


def read_pipeline() -> dict[str, dict[str, Any]]:
    """The entries of dvc.yaml's stages, by name."""
    pipeline = YAML(typ="safe", pure=True).load(PIPELINE.read_text(encoding="utf-8"))
    stages: dict[str, dict[str, Any]] = pipeline["stages"]
    return stages


def inputs_of(
    entry: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[Path]]:
    """(keys of params, files and folders) that a stage's entry declares as its inputs."""

    def filled(path: str) -> Path:
        def value(match: re.Match[str]) -> str:
            found: Any = params
            for key in match[1].split("."):
                found = found[key]
            return str(found)

        return Path(re.sub(r"\$\{([^}]+)\}", value, path))

    return tuple(entry.get("params", ())), [filled(path) for path in entry.get("deps", ())]


def outs_of(entry: Mapping[str, Any]) -> list[Path]:
    """Files and folders that a stage's entry declares as its outputs, metrics last."""
    listed = (*entry.get("outs", ()), *entry.get("metrics", ()))
    return [Path(next(iter(out)) if isinstance(out, dict) else out) for out in listed]


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
    elif _is_set(path):
        # A manifest vouches for its shards by their SHA-256.
        yield path / MANIFEST
    else:
        for entry in sorted(path.iterdir()):
            if entry.name not in _NO_INPUTS:
                yield from _files(entry)


def _is_set(folder: Path) -> bool:
    """Whether it is a data set: others may have a file of a manifest's name among theirs."""
    if not (folder / MANIFEST).is_file():
        return False
    try:
        Manifest.load(folder)
    except UserError:
        return False
    return True


def fingerprint_of(name: str, values: Mapping[str, Any], inputs: Sequence[Path]) -> str:
    """SHA-256 (hex) of a stage: its name, its params' values, its inputs' content."""
    digest = hashlib.sha256(json.dumps([name, values], sort_keys=True).encode())
    for path in inputs:
        for file in _files(path):
            try:
                with file.open("rb") as stream:
                    content = hashlib.file_digest(stream, "sha256").hexdigest()
            except OSError as error:
                raise UserError(f"{file}: not readable: {error.strerror or error}") from None
            digest.update(f"{file.as_posix()} {content}\n".encode())
    return digest.hexdigest()


def _prune(name: str, current: Path) -> None:
    others = [path for path in SCRATCH.glob(f"{name}-*") if path.is_dir() and path != current]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[: -(SCRATCH_KEPT - 1)]:
        shutil.rmtree(path, ignore_errors=True)


def _dvc_process() -> psutil.Process | None:
    """The dvc that started this process, through any shells between."""
    for process in psutil.Process().parents():
        try:
            words = [Path(word).name for word in process.cmdline()[:4]]
        except psutil.Error:
            continue
        if "dvc" in words:
            return process
    return None


def stop_without(process: psutil.Process | None, what: str) -> None:
    """Ends this process like SIGTERM once the one it works for (called `what`) is gone.

    dvc, for one, does not pass its own end on: the stage would run on beside the next `dvc repro`.
    """
    if process is None:
        return

    def watch() -> None:
        with contextlib.suppress(psutil.Error):
            while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                time.sleep(ORPHAN_CHECK_SECONDS)
        # A signal to all at once, as batch systems send it, has reached this process already. A
        # second one would end what the first makes it save.
        if not (_ending.is_set() or stop_requested()):
            print(f"{what} is gone: stopping", file=sys.stderr, flush=True)
            os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=watch, daemon=True, name=f"watch of {what}").start()


_ending = threading.Event()


def _exit_on_signal(number: int, frame: object) -> NoReturn:
    _ending.set()
    raise SystemExit(128 + number)


def run_stage(name: str, body: Callable[[Stage], None], *, leads: bool = True) -> NoReturn:
    """Runs a stage in the current directory, which is the top of a checkout, and exits.

    `leads`: whether this process holds the stage's lock, and its scratch folder ends with it; else
    it helps one that does.
    """
    signal.signal(signal.SIGTERM, _exit_on_signal)
    try:
        _run(name, body, leads=leads)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as stop:
        print(f"{name}: {stop}; the same command goes on from here", file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command goes on from here", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(f"{name}: {error.strerror} ({error.filename or 'disk'})", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def _run(name: str, body: Callable[[Stage], None], *, leads: bool = True) -> None:
    if not leads:
        run_beside(name, body)
        return
    with held(SCRATCH / f"{name}.lock", name, patience=LOCK_SECONDS):
        stage = _stage(name)
        _prune(name, stage.scratch)
        stage.scratch.mkdir(parents=True, exist_ok=True)
        body(stage)
        shutil.rmtree(stage.scratch, ignore_errors=True)


def run_beside(name: str, body: Callable[[Stage], None]) -> None:
    """Runs a stage's body for another process, which holds the stage's lock."""
    body(_stage(name))


def _stage(name: str) -> Stage:
    """The stage as its params and inputs now are; this process ends with the dvc around it."""
    params = load_params(PARAMS)
    values = params.model_dump(mode="json")
    pipeline = read_pipeline()
    keys, inputs = inputs_of(pipeline[name], values)
    stop_without(_dvc_process(), "dvc")
    chosen = {key: values[key] for key in keys}
    fingerprint = fingerprint_of(name, chosen, inputs)
    declared = cast(Params, _Declared(params, keys))
    scratch = SCRATCH / f"{name}-{fingerprint[:16]}"
    outs = [out for entry in pipeline.values() for out in outs_of(entry)]
    return Stage(name, declared, fingerprint, scratch, chosen, inputs, outs)
