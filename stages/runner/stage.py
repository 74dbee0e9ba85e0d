"""What every stage does around its own work: checked params, one run at a time, a scratch folder
that survives a kill, errors in one line.

A stage's inputs are what dvc.yaml declares for it, read from there: the params it may touch (any
other raises), and the files and folders whose content, with the values of those params, makes its
fingerprint. The scratch folder is named after the fingerprint, so a stage that was interrupted
goes on only where it is the same stage with the same inputs.
"""

import errno
import shutil
import signal
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, cast

from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Location, location, resolved
from pipeline.storage.lock import file_lock
from stages.params import PARAMS, Params, load_params
from stages.runner.declared import DeclaredParams, inputs_of, outs_of, read_pipeline
from stages.runner.fingerprint import fingerprint_of
from stages.runner.watchdog import dvc_process, exit_on_signal, exit_with_parent
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.signals import Interrupted

SCRATCH = Path(".scratch")

SCRATCH_KEPT = 3
"""Scratch folders of one stage that stay: interrupted runs of other params may be taken up."""

LOCK_SECONDS = 20.0
"""A run waits so long for the one before it: the stage of a dvc that was just killed takes a moment
to save its work."""


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
            write_atomic(together / name, text)
        for name in names:
            if not (together / name).exists():
                (self.scratch / name).rename(together / name)
        self.publish(together, out)


def _prune(name: str, current: Path) -> None:
    others = [path for path in SCRATCH.glob(f"{name}-*") if path.is_dir() and path != current]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[: -(SCRATCH_KEPT - 1)]:
        shutil.rmtree(path, ignore_errors=True)


def run_stage(name: str, body: Callable[[Stage], None], *, leads: bool = True) -> NoReturn:
    """Runs a stage in the current directory, which is the top of a checkout, and exits.

    `leads`: whether this process holds the stage's lock, and its scratch folder ends with it; else
    it helps one that does.
    """
    signal.signal(signal.SIGTERM, exit_on_signal)
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
    with file_lock(SCRATCH / f"{name}.lock", name, patience=LOCK_SECONDS):
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
    exit_with_parent(dvc_process(), "dvc")
    chosen = {key: values[key] for key in keys}
    fingerprint = fingerprint_of(name, chosen, inputs)
    declared = cast(Params, DeclaredParams(params, keys))
    scratch = SCRATCH / f"{name}-{fingerprint[:16]}"
    outs = [out for entry in pipeline.values() for out in outs_of(entry)]
    return Stage(name, declared, fingerprint, scratch, chosen, inputs, outs)
