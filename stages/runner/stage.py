"""Runs a stage: checks the params, allows one run at a time, keeps a scratch folder that survives a
kill, and reports errors in one line.

dvc.yaml declares the inputs of a stage: params, files and folders. Reading any other param raises.
The fingerprint of a stage is a hash over its inputs, and the scratch folder is named after it. An
interrupted stage therefore resumes only with the same inputs. A training may go on with some of
them changed (`stages.runner.resume`).
"""

import errno
import secrets
import shutil
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NoReturn, cast

from pipeline.executor.ledger import EarlierRuns
from pipeline.shards.manifest import COMPANIONS, Manifest, trust_storage
from pipeline.storage.location import Location, folder_names, location, resolved
from pipeline.storage.lock import file_lock
from stages.params import PARAMS, Params, load_params
from stages.runner.declared import DeclaredParams, code_of, inputs_of, outs_of, read_pipeline
from stages.runner.fingerprint import fingerprint_of, input_digests
from stages.runner.publish import partial_path, remove
from stages.runner.watchdog import dvc_process, exit_on_signal, exit_with_parent
from stages.runner.weights import missing_weights
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.cores import busy_note
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.signals import Interrupted
from tvqrap.runtime.text import printable

SCRATCH = Path(".scratch")

FINISHED = SCRATCH / "finished"
"""Folder of the files that the last finished run of a stage leaves to later runs."""

SCRATCH_KEPT = 3
"""Scratch folders without checkpoints that are kept for each stage: interrupted runs of other
params resume. Those with checkpoints, which are trainings, are never removed unasked."""

CHECKPOINTS = "step-*.pt"
"""Names of a training's checkpoints in its scratch folder."""

LOCK_SECONDS = 20.0
"""Time that a run waits for the one before it: the stage of a dvc that was just killed takes a
moment to save its work."""


_OF_THE_DISK = frozenset(
    {
        *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES, errno.EPERM),
        *(errno.EIO, errno.ESTALE, errno.ENOTCONN, errno.ENODEV, errno.ENXIO, errno.EHOSTDOWN),
        *(errno.ETIMEDOUT, errno.ENOENT),
    }
)
"""Errors of the system that are no fault of the code: no space, no permission, a failing disk, or
one that is gone."""


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
    data: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each declared input but the code, by path."""
    code: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each declared file or folder of code, by path."""
    outs: Sequence[Path] = ()
    """The declared outputs of all stages."""
    own_outs: Sequence[Path] = ()
    """The declared outputs of this stage."""

    def work(self, storage: str | None) -> Location:
        """Folder in which this run makes its sets: its scratch folder, or one of that name in
        `storage`.

        Each fingerprint has its own folder, so sets of other params, inputs or code stay.

        Raises `UserError` where the storage lies in a folder that stages or dvc empty.
        """
        if storage is None:
            return self.scratch
        trust_storage(storage)
        place = resolved(location(storage))
        for emptied in (SCRATCH, *self.outs):
            if isinstance(place, Path) and place.is_relative_to(emptied.resolve()):
                raise UserError(
                    f"storage {storage}: lies in {emptied}, which is emptied before it is written, "
                    "expected a folder elsewhere"
                )
        return place / self.scratch.name

    def outlasting(self, name: str, storage: str | None) -> Location:
        """A folder for files that outlive the scratch folder, such as logs.

        It lies beside the scratch folders, or with the sets in `storage`.
        """
        if storage is None:
            return self.scratch.parent / name / self.scratch.name
        return self.work(storage) / name

    def earlier_runs(self, storage: str | None) -> EarlierRuns:
        """The folders in which runs of this stage with other params or inputs made their sets.

        Their shards can be taken over where the code is the same: that which dvc.yaml declares.
        """
        own = self.work(storage)
        others = [
            own.parent / name
            for name in folder_names(own.parent)
            if name.startswith(f"{self.name}-") and name != own.name
        ]
        kept = [FINISHED / self.name] if storage is None else []
        return EarlierRuns(fingerprint_of(self.name, {}, self.code), (*kept, *others))

    def keep_sets(self, storage: str | None) -> None:
        """Moves this run's finished sets to where the next run finds their shards.

        They are links of the published ones. Those of the run before are removed. Sets in a storage
        stay where they are.
        """
        if storage is None:
            kept = FINISHED / self.name
            remove(kept)
            kept.parent.mkdir(parents=True, exist_ok=True)
            self.scratch.replace(kept)

    def refer_to(self, manifest: Manifest, work: Location) -> None:
        """Saves the manifest of a set in a storage, and the files beside it, to the scratch."""
        if work != self.scratch:
            for name in COMPANIONS:
                with suppress(FileNotFoundError):
                    content = (work / manifest.set / name).read_bytes()
                    write_atomic(self.scratch / manifest.set / name, content)
            replace(manifest, location=str(work / manifest.set)).save(self.scratch / manifest.set)


def _prune(name: str, current: Path) -> None:
    others = [
        path
        for path in SCRATCH.glob(f"{name}-*")
        if path.is_dir() and path != current and not any(path.glob(CHECKPOINTS))
    ]
    others.sort(key=lambda path: path.stat().st_mtime)
    for path in others[: -(SCRATCH_KEPT - 1)]:
        shutil.rmtree(path, ignore_errors=True)


def run_stage(name: str, body: Callable[[Stage], None], *, leads: bool = True) -> NoReturn:
    """Runs a stage in the current directory, which is the top of a checkout, and exits.

    `leads`: whether this process holds the stage's lock and removes its scratch folder at the end.
    The other workers of a training do not.
    """
    signal.signal(signal.SIGTERM, exit_on_signal)
    run = run_alone if leads else run_beside
    try:
        run(name, body)
    except UserError as error:
        print(printable(_with_name(name, str(error))), file=sys.stderr)
        sys.exit(error.exit_code)
    except Interrupted as stop:
        print(f"{name}: {stop}; the same command resumes from here", file=sys.stderr)
        sys.exit(128 + stop.signal_number)
    except KeyboardInterrupt:
        print(f"{name}: stopped; the same command resumes from here", file=sys.stderr)
        sys.exit(130)
    except OSError as error:
        if error.errno not in _OF_THE_DISK:
            raise
        where = printable(str(error.filename or "disk"))
        print(f"{name}: {error.strerror} ({where})", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


def run_alone(name: str, body: Callable[[Stage], None]) -> None:
    """Runs a stage's body under the stage's lock; its scratch folder ends with it.

    A run that waited for another one with the same inputs, and finds its outputs, makes nothing.
    Raises `UserError` where another process still holds the lock after `LOCK_SECONDS`, and where
    this or a later stage lacks weights.
    """
    params = load_params(PARAMS)
    missing = missing_weights(params)
    if missing:
        raise UserError(missing)
    done = SCRATCH / f"{name}.done"
    before = _text(done)
    with file_lock(SCRATCH / f"{name}.lock", name, patience=LOCK_SECONDS):
        stage = _stage(name, params)
        after = _text(done)
        made = after != before and after.startswith(stage.fingerprint)
        if made and all(out.exists() for out in stage.own_outs):
            print(f"{name}: made by another run at the same time", flush=True)
            return
        _prune(name, stage.scratch)
        for out in stage.own_outs:
            remove(partial_path(out))
        stage.scratch.mkdir(parents=True, exist_ok=True)
        if "compute" in stage.values:
            note = busy_note(stage.values["compute"]["threads"], "compute.threads")
            if note:
                print(f"{name}: {note}", file=sys.stderr, flush=True)
        body(stage)
        write_atomic(done, f"{stage.fingerprint} {secrets.token_hex(8)}")
        shutil.rmtree(stage.scratch, ignore_errors=True)


def run_beside(name: str, body: Callable[[Stage], None]) -> None:
    """Runs a stage's body for another process, which holds the stage's lock."""
    body(_stage(name, load_params(PARAMS)))


def _text(file: Path) -> str:
    """The text of a file, empty where there is no such file."""
    return file.read_text() if file.exists() else ""


def _with_name(name: str, message: str) -> str:
    """A message that begins with the stage's name, once."""
    return message if message.startswith((f"{name}:", f"{name} is ")) else f"{name}: {message}"


def _stage(name: str, params: Params) -> Stage:
    """The stage with its present inputs; this process ends with the dvc around it."""
    values = params.model_dump(mode="json")
    pipeline = read_pipeline()
    keys, inputs = inputs_of(pipeline[name], values)
    exit_with_parent(dvc_process(), "dvc")
    chosen = {key: values[key] for key in keys}
    digests = input_digests(inputs)
    code = code_of(pipeline[name])
    fingerprint = fingerprint_of(name, chosen, digests)
    return Stage(
        name,
        cast(Params, DeclaredParams(params, keys)),
        fingerprint,
        SCRATCH / f"{name}-{fingerprint[:16]}",
        chosen,
        data={path: digest for path, digest in digests.items() if path not in code},
        code={path: digests[path] for path in code},
        outs=[out for entry in pipeline.values() for out in outs_of(entry)],
        own_outs=outs_of(pipeline[name]),
    )
