"""`tvqrap-cli upscale`: photographs in, larger photographs out."""

import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from tvqrap.architecture import SCALE
from tvqrap.cli.checkout import default_model
from tvqrap.cli.upscale_jobs import STREAM, Job, choose_format, find_jobs, is_folder, is_there
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.runtime.text import printable

if TYPE_CHECKING:
    from tvqrap.photo_io.formats import Format
    from tvqrap.photo_io.reader import PhotoFile
    from tvqrap.upscaling.upscaler import Upscaler

_UNIT = 1000
"""LR pixels that the progress counts as one."""
_LARGEST_INPUT = 2**31
"""Bytes that standard input may hold."""


def upscale(
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="PHOTO...", help="Images, folders or globs; - for standard input."),
    ],
    output: Annotated[
        Path,
        typer.Option(
            "-o",
            "--output",
            help="A file for one photograph, a folder for several; - for standard output.",
        ),
    ],
    model: Annotated[
        Path | None,
        typer.Option(
            help="Model folder; if not given, models/rap of a checkout, or else the package's."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    precision: Annotated[str, typer.Option(help="float32 or bfloat16.")] = "float32",
    outscale: Annotated[
        float, typer.Option(help="How many times as wide and high; resampled from 4 times.")
    ] = SCALE,
    colour: Annotated[
        str, typer.Option(help="keep the model's colours, or match the photograph's.")
    ] = "keep",
    format_name: Annotated[
        str | None,
        typer.Option("--format", help="png, jpeg, webp or tiff; by the output's ending, else png."),
    ] = None,
    quality: Annotated[
        int | None, typer.Option(help="1 to 100, of jpeg and webp; 95 if not given.")
    ] = None,
    tile: Annotated[
        int | None,
        typer.Option(help="Side of tiles in LR pixels; 256, or less where memory is short."),
    ] = None,
    max_pixels: Annotated[
        int, typer.Option(min=1, help="Pixels of the largest photograph that is read.")
    ] = 100_000_000,
    follow_links: Annotated[
        bool, typer.Option("--follow-links", help="Follow links that lead out of a folder.")
    ] = False,
    overwrite: Annotated[bool, typer.Option(help="Replace outputs that are there.")] = False,
) -> None:
    """Enlarge photographs of any size, four times if not told otherwise.

    What is done already is skipped. What cannot be read is named at the end, and the rest is done.
    """
    form = choose_format(format_name, output)
    if quality is not None and not form.lossy:
        raise UsageError(f"--quality: {form.name} is without loss, expected --format jpeg or webp")
    if quality is not None and not 1 <= quality <= 100:
        raise UsageError(f"--quality: found {quality}, expected 1 to 100")
    if not 0 < outscale <= 64:
        raise UsageError(f"--outscale: found {outscale:g}, expected more than 0, at most 64")
    found = find_jobs(inputs, output, form, follow_links)
    for line in found.notes:
        _say(line)
    folder = model or default_model("rap")
    settings = {"outscale": f"{outscale:g}", "colour": colour, "precision": precision}
    if form.lossy:
        settings["quality"] = str(quality or 95)
    run = _Run(form, outscale, quality, max_pixels, folder, settings)
    jobs = run.to_do(found.jobs, overwrite)
    try:
        sizes = run.sizes(jobs)
        if sizes:
            run.upscale(sizes, _upscaler(folder, device, precision, colour, tile))
    finally:  # an interruption loses no line
        for line in (*found.faults, *run.failed):
            _say(line)
    if run.failed:
        raise UserError(f"{len(run.failed)} of {len(found.jobs)} images could not be upscaled")
    if found.faults:
        raise UserError(f"{len(found.faults)} inputs could not be searched")


class _Run:
    """The work on a list of jobs; a fault of one is noted and the next is done."""

    def __init__(
        self,
        form: "Format",
        outscale: float,
        quality: int | None,
        max_pixels: int,
        model: Path,
        settings: dict[str, str],
    ) -> None:
        self.form = form
        self.outscale = outscale
        self.quality = quality
        self.max_pixels = max_pixels
        self.model = model
        self.settings = settings
        """Choices that an output depends on, beside its photograph and the model."""
        self.failed: list[str] = []
        self.piped = b""

    def to_do(self, found: list[Job], overwrite: bool) -> list[Job]:
        """The jobs without an output; says how many have one, and which outputs are stale."""
        jobs, done = [], 0
        for job in found:
            if job.target == STREAM or not is_there(job.target):
                jobs.append(job)
            elif is_folder(job.target):
                self.failed.append(f"{job.target}: is a folder, expected an image or nothing")
            elif overwrite:
                jobs.append(job)
            elif problem := self._difference(job):
                self.failed.append(f"{job.target}: {problem}; --overwrite replaces it")
            else:
                done += 1
        if done:
            count = f"{done} of {len(found)} " if len(found) > 1 else ""
            there = f"{'is' if done == 1 else 'are'} there already, skipped; --overwrite replaces"
            name = found[0].target.name if len(found) == 1 else "outputs"
            _say(f"{name}: {count}{there}")
        return jobs

    def _difference(self, job: Job) -> str:
        """How an output differs from what would be made now; empty where it does not."""
        from tvqrap.cli.upscale_record import difference, read_record

        record = read_record(job.target)
        if record is None:
            if job.source != STREAM and _is_newer(job.source, job.target):
                _say(f"{job.target}: stale, {job.source} has changed since")
            return ""
        try:
            return difference(record, self.record(job))
        except OSError:  # a photograph that is gone cannot have changed
            return ""

    def record(self, job: Job) -> dict[str, str]:
        """What a job's output depends on."""
        from tvqrap.cli.upscale_record import SOURCE, source_digest
        from tvqrap.pretrained.folder import read_config

        if "model" not in self.settings:
            self.settings["model"] = read_config(self.model).fingerprint[:12]
        source = self._piped() if job.source == STREAM else job.source
        return {**self.settings, SOURCE: source_digest(source)}

    def _piped(self) -> bytes:
        """The content of standard input."""
        if not self.piped:
            self.piped = sys.stdin.buffer.read(_LARGEST_INPUT + 1)
        if len(self.piped) > _LARGEST_INPUT:
            raise UserError(f"standard input: holds more than {_LARGEST_INPUT} bytes")
        return self.piped

    def sizes(self, jobs: list[Job]) -> list[tuple[Job, tuple[int, int]]]:
        """The jobs that can be done, with the (width, height) of their photographs."""
        from tvqrap.photo_io.formats import check_fits_format
        from tvqrap.photo_io.reader import read_header

        sizes = []
        for job in jobs:
            try:
                source = self._piped() if job.source == STREAM else job.source
                header = read_header(source, self.max_pixels)
                size = header.width, header.height
                check_fits_format(str(job.source), self.form, self._enlarged(size), header.deep)
                sizes.append((job, size))
            except UserError as error:
                self.failed.append(str(error))
        return sizes

    def upscale(self, sizes: list[tuple[Job, tuple[int, int]]], upscaler: "Upscaler") -> None:
        from tvqrap.runtime.progress import progress

        total = sum(upscaler.work(height, width) for _, (width, height) in sizes)
        with progress("upscale", total=-(-total // _UNIT), unit="kpixel") as advance:
            finished = 0

            def seen(pixels: int, worked: bool = True) -> None:
                nonlocal finished
                count = -(-(finished + pixels) // _UNIT) + finished // -_UNIT
                finished += pixels
                advance(count, note) if worked else advance(0, note, skipped=count)

            for number, (job, (width, height)) in enumerate(sizes, 1):
                note = f"{job.source.name} ({number} of {len(sizes)})"
                before = finished
                try:
                    self._one(job, upscaler, seen)
                except UserError as error:
                    self.failed.append(str(error))
                except OSError as error:
                    self.failed.append(f"{job.target}: cannot be written ({error})")
                except Exception as error:  # one photograph's oddity is not the others' end
                    self.failed.append(_told(job, error))
                # The rest of a photograph that failed half-way is not to do any more.
                seen(before + upscaler.work(height, width) - finished, worked=False)

    def _one(self, job: Job, upscaler: "Upscaler", seen: Callable[[int], None]) -> None:
        from tvqrap.photo_io.reader import read_photo
        from tvqrap.runtime.atomic import atomic_path

        source = self.piped if job.source == STREAM else job.source
        read = read_photo(source, self.max_pixels)
        for note in read.notes:
            _say(f"{job.source}: {note}")

        left_out = list(read.left_out)

        def write(file: BinaryIO) -> None:
            left_out.extend(self._write(file, job, read, upscaler, seen))

        if job.target == STREAM:
            with tempfile.TemporaryFile() as waiting:
                write(waiting)
                waiting.seek(0)
                shutil.copyfileobj(waiting, sys.stdout.buffer)
                sys.stdout.buffer.flush()
        else:
            with atomic_path(job.target) as temporary, temporary.open("wb") as file:
                write(file)
        if left_out:
            names = ", ".join(left_out)
            _say(f"{job.source}: left out, broken or not possible in this file: {names}")

    def _write(
        self,
        file: BinaryIO,
        job: Job,
        read: "PhotoFile",
        upscaler: "Upscaler",
        seen: Callable[[int], None],
    ) -> list[str]:
        from tvqrap.cli.upscale_record import record_line
        from tvqrap.photo_io.metadata import signed
        from tvqrap.photo_io.photo import enlarged_rows
        from tvqrap.photo_io.writer import write_photo

        height, width = read.photo.pixels.shape[:2]
        size = self._enlarged((width, height))
        try:
            rows = enlarged_rows(read.photo, lambda lr: upscaler.rows(lr, seen), size)
            metadata = signed(read.metadata, record_line(self.record(job)))
            return write_photo(file, self.form, rows, size, metadata, self.quality)
        except ValueError as error:
            raise UserError(f"{job.source}: {error}") from None
        except (MemoryError, RuntimeError) as error:
            # What torch raises on a CPU has no class of its own.
            if isinstance(error, RuntimeError) and "memory" not in str(error):
                raise
            raise UserError(
                f"{job.source}: memory ran out with tiles of {upscaler.tile}; a smaller --tile "
                "needs less"
            ) from None

    def _enlarged(self, size: tuple[int, int]) -> tuple[int, int]:
        """Of a photograph's width and height, the output's."""
        width, height = (max(1, round(side * self.outscale)) for side in size)
        return width, height


def _say(line: str) -> None:
    typer.echo(printable(line), err=True)


def _is_newer(source: Path, target: Path) -> bool:
    try:
        return source.stat().st_mtime > target.stat().st_mtime
    except OSError:  # a missing source is named where it is read
        return False


def _told(job: Job, error: Exception) -> str:
    """What no one foresaw, as one line."""
    lines = str(error).splitlines() or [""]
    return f"{job.source}: {type(error).__name__}: {lines[0]}"


def _upscaler(
    folder: Path, device: str, precision: Any, colour: Any, tile: int | None
) -> "Upscaler":
    from tvqrap.runtime.cores import use_idle_cores
    from tvqrap.runtime.device import select_device
    from tvqrap.runtime.memory import keep_freed_memory
    from tvqrap.upscaling.upscaler import Upscaler

    select_device(device, "--device")
    use_idle_cores()
    keep_freed_memory()
    try:
        return Upscaler.from_pretrained(
            folder, device, precision=precision, colour=colour, tile=tile
        )
    except ValueError as error:
        raise UsageError(f"--{error}") from None
