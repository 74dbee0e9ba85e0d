"""Upscaling files and folders: the work of `tvqrap-cli upscale`, and the functions for Python."""

import logging
import shutil
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import BinaryIO, Literal

from tvqrap.photo_io.formats import check_fits_format, check_holds_several
from tvqrap.photo_io.metadata import signed
from tvqrap.photo_io.photo import enlarged_rows
from tvqrap.photo_io.reader import (
    PhotoFile,
    SeveralPhotos,
    read_header,
    read_photo,
    read_several,
    read_several_header,
)
from tvqrap.photo_io.writer import write_photo
from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.device_memory import is_out_of_memory
from tvqrap.runtime.errors import UsageError, UserError, one_line
from tvqrap.upscaling.claims import claim, in_turn
from tvqrap.upscaling.frames import write_several
from tvqrap.upscaling.jobs import STREAM, Job, Output, find_jobs, is_folder, is_glob, is_there
from tvqrap.upscaling.record import (
    FRAMES,
    SOURCE,
    difference,
    made_by,
    read_record,
    record_line,
    source_digest,
)
from tvqrap.upscaling.settings import OutputSettings
from tvqrap.upscaling.upscaler import Advance, Upscaler

DEFAULT_SETTINGS = OutputSettings()
LARGEST_INPUT = 2**31
"""Bytes that standard input may hold."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """The outcome of one photograph."""

    source: Path
    target: Path
    status: Literal["upscaled", "exists", "failed"]
    """`exists`: the same photograph, model and settings made the target before."""
    message: str = ""
    """Why it failed: one line, which names the file."""
    notes: tuple[str, ...] = ()
    """One line for each loss or oddity of the photograph or of an existing target."""


@dataclass(frozen=True)
class Task:
    """A photograph that can be upscaled."""

    job: Job
    lr_size: tuple[int, int]
    """(width, height) of the upright photograph, or of its first page."""
    size: tuple[int, int]
    """(width, height) of the output."""
    record: Mapping[str, str]
    """All values that the output depends on."""
    images: int = 1
    """Frames or pages that are upscaled."""
    pixels: int = 0
    """LR pixels of all of them."""
    replaced: tuple[int, int] | None = None
    """Inode and time of change (ns) of an existing output; None where there is none."""


@dataclass
class FileUpscaler:
    """Checks and upscales photographs, one at a time, with the same settings."""

    settings: OutputSettings
    made_by: Mapping[str, str]
    """Choices of the upscaler that outputs depend on, see `record.made_by`."""
    overwrite: bool = False
    _piped: bytes | None = field(default=None, repr=False)

    def check(self, job: Job) -> Task | Outcome:
        """The task of a job, or its outcome where there is nothing to do or nothing possible.

        Reads the photograph's header; its pixels may still turn out to be broken.
        """
        try:
            task = self._task(job)
        except (UserError, OSError) as error:
            return Outcome(job.source, job.target, "failed", _line(job.source, error))
        if job.target == STREAM or not is_there(job.target):
            return task
        if self.overwrite and not is_folder(job.target):
            return replace(task, replaced=_identity(job.target))
        return self._existing(task)

    def _existing(self, task: Task) -> Outcome:
        """The outcome of a task whose output is there."""
        job = task.job
        if is_folder(job.target):
            problem = "is a folder, expected an image or nothing"
        else:
            record = read_record(job.target)
            if record is None:
                notes: tuple[str, ...] = ()
                if job.source != STREAM and _is_newer(job.source, job.target):
                    notes = (f"{job.target}: stale, {job.source} has changed since",)
                return Outcome(job.source, job.target, "exists", notes=notes)
            problem = difference(record, task.record)
            if not problem:
                return Outcome(job.source, job.target, "exists")
            problem += "; overwrite replaces it"
        return Outcome(job.source, job.target, "failed", f"{job.target}: {problem}")

    def run(self, task: Task, upscaler: Upscaler, advance: Advance | None = None) -> Outcome:
        """Upscales one photograph; whatever goes wrong with it is its outcome.

        The output appears whole or not at all. `advance` is called with LR pixels that are done.
        """
        job = task.job
        try:
            notes = self._upscale(task, upscaler, advance)
        except OSError as error:
            message = f"{job.target}: cannot be written ({error.strerror or error})"
        except UserError as error:
            message = str(error)
        except Exception as error:  # one photograph's oddity is not the others' end
            message = _line(job.source, error)
            if is_out_of_memory(error):
                message = f"{job.source}: memory ran out with tiles of {upscaler.limits.tile}"
        else:
            return Outcome(job.source, job.target, "upscaled", notes=notes)
        return Outcome(job.source, job.target, "failed", message)

    def run_shared(
        self, task: Task, upscaler: Upscaler, advance: Advance | None = None
    ) -> Outcome | None:
        """As `run`, where other processes may have the same tasks.

        None where another process is at this photograph. An output that another process has
        written since the check counts as existing.
        """
        target = task.job.target
        if target == STREAM:
            return self.run(task, upscaler, advance)
        try:
            with claim(target) as claimed:
                if not claimed:
                    return None
                if is_there(target) and _identity(target) != task.replaced:
                    return self._existing(task)
                return self.run(task, upscaler, advance)
        except OSError as error:
            message = f"{target}: cannot be written ({error})"
            return Outcome(task.job.source, target, "failed", message)

    def _task(self, job: Job) -> Task:
        if job.target == STREAM and sys.stdout is None:
            raise UserError("standard output: is closed, expected a pipe or a file")
        content = self._content(job)
        header = read_header(content, self.settings.max_pixels)
        lr_size = header.width, header.height
        try:
            size = self.settings.enlarged(*lr_size)
        except ValueError as error:
            raise UserError(f"{job.source}: {error}") from None
        check_fits_format(str(job.source), job.form, size, header.deep)
        lr_sizes: tuple[tuple[int, int], ...] = (lr_size,)
        if self.settings.frames == "all" and (several := self._several(job, content, header.deep)):
            lr_sizes = several
        record = {
            "size": f"{size[0]}x{size[1]}",
            **self.made_by,
            **self.settings.encoding(job.form),
            **({FRAMES: "all"} if len(lr_sizes) > 1 else {}),
            SOURCE: source_digest(content),
        }
        pixels = sum(width * height for width, height in lr_sizes)
        return Task(job, lr_size, size, record, len(lr_sizes), pixels)

    def _several(
        self, job: Job, content: Path | bytes, deep: bool
    ) -> tuple[tuple[int, int], ...] | None:
        """Sizes of all frames or pages, if there are several; checks that the format holds them."""
        several = read_several_header(content, self.settings.max_pixels)
        if several is None:
            return None
        sizes = [self.settings.enlarged(*size) for size in several.sizes]
        check_holds_several(str(job.source), job.form, sizes, several.pages, deep)
        return several.sizes

    def _content(self, job: Job) -> Path | bytes:
        """A job's file, or the content of standard input."""
        if job.source != STREAM:
            return job.source
        if sys.stdin is None:
            raise UserError("standard input: is closed, expected a photograph")
        if self._piped is None:
            self._piped = sys.stdin.buffer.read(LARGEST_INPUT + 1)
        if len(self._piped) > LARGEST_INPUT:
            raise UserError(f"standard input: holds more than {LARGEST_INPUT} bytes")
        return self._piped

    def _upscale(self, task: Task, upscaler: Upscaler, advance: Advance | None) -> tuple[str, ...]:
        job = task.job
        content, most = self._content(job), self.settings.max_pixels
        read = read_photo(content, most) if task.images == 1 else read_several(content, most)
        if job.target == STREAM:
            with tempfile.TemporaryFile() as waiting:
                lost = self._write(waiting, task, read, upscaler, advance)
                waiting.seek(0)
                shutil.copyfileobj(waiting, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        else:
            with atomic_path(job.target) as temporary, temporary.open("w+b") as file:
                lost = self._write(file, task, read, upscaler, advance)
        files = (read,) if isinstance(read, PhotoFile) else read.files
        lines = dict.fromkeys(note for one in files for note in one.notes)
        notes = [f"{job.source}: {line}" for line in lines]
        losses = dict.fromkeys([*(name for one in files for name in one.left_out), *lost])
        if left_out := ", ".join(losses):
            notes.append(f"{job.source}: left out, broken or not possible in this file: {left_out}")
        return tuple(notes)

    def _write(
        self,
        file: BinaryIO,
        task: Task,
        read: PhotoFile | SeveralPhotos,
        upscaler: Upscaler,
        advance: Advance | None,
    ) -> list[str]:
        settings, line = self.settings, record_line(task.record)
        try:
            if isinstance(read, SeveralPhotos):
                # Beside the output: the system's folder for temporary files may be small.
                scratch = None if task.job.target == STREAM else task.job.target.parent
                return write_several(
                    file, task.job.form, read, upscaler, settings, line, advance, scratch
                )
            rows = enlarged_rows(read.photo, lambda lr: upscaler.rows(lr, advance), task.size)
            return write_photo(
                file,
                task.job.form,
                rows,
                task.size,
                signed(read.metadata, line),
                quality=settings.quality,
                lossless=settings.lossless,
                compression=settings.compression,
            )
        except ValueError as error:
            raise UserError(f"{task.job.source}: {error}") from None


def upscale_file(
    source: str | Path,
    target: str | Path,
    upscaler: Upscaler | None = None,
    settings: OutputSettings = DEFAULT_SETTINGS,
    *,
    overwrite: bool = False,
) -> Outcome:
    """Upscales one photograph with its metadata, as `tvqrap-cli upscale` does.

    The ending of `target` says the format: png, jpg, webp, tif or avif. Without an upscaler, it is
    the network of the package. A target that the same photograph, model and settings made stays,
    and so does one that another program made.

    >>> upscale_file("photo.jpg", "large.png").status
    'upscaled'
    >>> upscale_file("photo.jpg", "large.png").status
    'exists'
    >>> half = OutputSettings(scale=2, quality=90)
    >>> upscale_file("photo.jpg", "twice.webp", settings=half).target.name
    'twice.webp'

    Raises UserError where the photograph cannot be read or upscaled, the target cannot be written,
    or other settings made it and `overwrite` is false. Raises UsageError for a folder or a glob,
    ValueError where a setting has no meaning for the format.
    """
    photo, output = Path(source), Output(Path(target), form=settings.form)
    if is_folder(photo) or is_glob(photo):
        kind = "folder" if is_folder(photo) else "glob"
        raise UsageError(f"{photo}: is a {kind}, expected one photograph (upscale_files takes it)")
    outcomes = _outcomes([photo], output, upscaler, settings, overwrite=overwrite)
    (outcome,) = outcomes
    if outcome.status == "failed":
        raise UserError(outcome.message)
    return outcome


def upscale_files(
    inputs: str | Path | Iterable[str | Path],
    folder: str | Path,
    upscaler: Upscaler | None = None,
    settings: OutputSettings = DEFAULT_SETTINGS,
    *,
    suffix: str = "",
    recursive: bool = True,
    follow_links: bool = False,
    overwrite: bool = False,
) -> Iterator[Outcome]:
    """Upscales photographs, folders and globs into a folder, and yields what became of each.

    Folders keep their tree; `recursive` is whether folders in them are searched. `suffix` follows
    each name. Existing outputs stay unless `overwrite`. Processes with the same outputs share the
    work. Photographs that fail do not stop the rest:

    >>> for outcome in upscale_files("album", "large"):
    ...     print(outcome.source.name, outcome.status)
    a.jpg upscaled
    b.jpg upscaled
    broken.jpg failed

    Files that are passed over are logged. Raises UserError where there is nothing to do, UsageError
    where two photographs would have one output, ValueError where a setting has no meaning for any
    of the formats.
    """
    given = [inputs] if isinstance(inputs, str | Path) else inputs
    output = Output(Path(folder), folder=True, suffix=suffix, form=settings.form)
    yield from _outcomes(
        [Path(path) for path in given],
        output,
        upscaler,
        settings,
        overwrite=overwrite,
        recursive=recursive,
        follow_links=follow_links,
    )


def _outcomes(
    inputs: list[Path],
    output: Output,
    upscaler: Upscaler | None,
    settings: OutputSettings,
    *,
    overwrite: bool,
    recursive: bool = True,
    follow_links: bool = False,
) -> Iterator[Outcome]:
    found = find_jobs(inputs, output, recursive=recursive, follow_links=follow_links)
    settings.check_used({job.form for job in found.jobs})
    for line in (*found.notes, *found.faults):
        _log.warning("%s", line)
    upscaler = upscaler or Upscaler()
    made = made_by(upscaler.fingerprint, upscaler.colour, upscaler.precision, **upscaler.given)
    files = FileUpscaler(settings, made, overwrite)

    def run(checked: Task | Outcome) -> Outcome | None:
        return checked if isinstance(checked, Outcome) else files.run_shared(checked, upscaler)

    for _, outcome in in_turn([files.check(job) for job in found.jobs], run):
        yield outcome


def _identity(target: Path) -> tuple[int, int]:
    status = target.stat()
    return status.st_ino, status.st_mtime_ns


def _is_newer(source: Path, target: Path) -> bool:
    try:
        return source.stat().st_mtime > target.stat().st_mtime
    except OSError:  # a missing source is named where it is read
        return False


def _line(source: Path, error: Exception) -> str:
    """An error as one line."""
    if isinstance(error, UserError):
        return str(error)
    return f"{source}: {one_line(error)}"
