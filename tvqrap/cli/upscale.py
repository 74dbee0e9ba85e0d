"""`tvqrap-cli upscale`: enlarges photographs."""

import os
import re
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from tvqrap.cli import upscale_options as options
from tvqrap.cli.checkout import default_model
from tvqrap.cli.options import Device, Overwrite
from tvqrap.runtime.device_names import check_device_name
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.runtime.text import printable
from tvqrap.upscaling.jobs import FoundJobs, Output, find_jobs
from tvqrap.upscaling.settings import OutputSettings, check_choices

if TYPE_CHECKING:
    from tvqrap.pretrained.models import Model
    from tvqrap.upscaling.files import FileUpscaler, Outcome, Task
    from tvqrap.upscaling.upscaler import Upscaler

_UNIT = 1000
"""LR pixels that the progress counts as one."""
_ALIASES = {"jpg": "jpeg", "tif": "tiff"}
"""Other names of formats."""


def upscale(
    inputs: options.Photos,
    output: options.OutputName = None,
    model: options.AnyModel = None,
    device: Device = "auto",
    precision: options.PrecisionChoice = "float32",
    scale: options.Scale = None,
    size: options.Size = None,
    colour: options.ColourChoice = "keep",
    suffix: options.Suffix = None,
    format_name: options.FormatName = None,
    quality: options.Quality = None,
    lossless: options.Lossless = False,
    compression: options.Compression = None,
    tile: options.Tile = None,
    max_pixels: options.MaxPixels = 100_000_000,
    frames: options.FramesChoice = "first",
    recursive: options.Recursive = True,
    follow_links: options.FollowLinks = False,
    dry_run: options.DryRun = False,
    watch: options.Watch = False,
    overwrite: Overwrite = False,
) -> None:
    """Enlarge photographs of any size, four times if not told otherwise.

    Outputs that exist are kept. Photographs that cannot be read are skipped and named at the end.
    """
    try:
        check_device_name(device)
        check_choices(precision, colour)
        settings = OutputSettings(
            scale=4 if scale is None else scale,
            size=_size(size, scale),
            format=_ALIASES.get(format_name or "", format_name),
            quality=quality,
            lossless=lossless,
            compression=compression,
            max_pixels=max_pixels,
            frames=frames,  # type: ignore[arg-type]  # checked by the settings
        )
        place = _output(output, suffix, settings)
        if watch:
            _check_watch(inputs, place, dry_run)
        choices = {"recursive": recursive, "follow_links": follow_links, "may_be_empty": watch}
        find = partial(find_jobs, inputs, place, **choices)
        found = find()
        settings.check_used({job.form for job in found.jobs})
    except ValueError as error:
        raise UsageError(f"--{error}") from None
    chosen = _model(model, device, tile)

    from tvqrap.upscaling.files import FileUpscaler
    from tvqrap.upscaling.record import made_by

    made = made_by(chosen.fingerprint, colour, precision, tile=tile)
    run = _Run(found, FileUpscaler(settings, made, overwrite))
    load = partial(_upscaler, chosen, device, precision, colour, tile)
    if watch:
        run.watch(find, load())
    else:
        run.once(load, dry_run)


def _size(given: str | None, scale: float | None) -> tuple[int, int] | None:
    """(width, height) of `--size`. Raises ValueError for another form, or beside `--scale`."""
    if given is None:
        return None
    if scale is not None:
        raise ValueError("size stands in place of scale, expected one of them")
    match = re.fullmatch(r"(\d{1,9})[xX](\d{1,9})", given)
    if match is None:
        raise ValueError(f"size is {given!r}, expected WIDTHxHEIGHT, as 3840x2160")
    return int(match[1]), int(match[2])


def _output(given: str | None, suffix: str | None, settings: OutputSettings) -> Output:
    if suffix is not None and set(suffix) & {"/", os.sep, "\0"}:
        raise ValueError(f"suffix is {suffix!r}, expected a part of a file's name")
    if given is not None:
        folder = given.endswith(("/", os.sep))
        return Output(Path(given), folder, suffix or "", settings.form)
    if suffix is None:
        suffix = settings.suffix
    return Output(None, suffix=suffix, form=settings.form)


def _check_watch(inputs: list[Path], output: Output, dry_run: bool) -> None:
    """Raises ValueError where outputs could be taken for new photographs."""
    if dry_run:
        raise ValueError("watch has no meaning with --dry-run, expected one of them")
    for path in inputs:
        if not path.is_dir():
            raise ValueError(f"watch: {path} is no folder, expected folders to watch")
        if output.path is None or os.path.realpath(output.path) == os.path.realpath(path):
            raise ValueError("watch: expected -o with another folder for the outputs")


def _model(given: str | None, device: str, tile: int | None) -> "Model":
    """Finds the given model or the default, and prints its name and fingerprint."""
    from tvqrap.pretrained.models import find_model, name_or_path
    from tvqrap.pretrained.packaged import UPSCALER
    from tvqrap.runtime.device import select_device
    from tvqrap.upscaling.tiles import check_tile

    select_device(device, "--device")
    model = find_model(default_model("rap") if given is None else name_or_path(given))
    if tile is not None:
        try:
            check_tile(tile, model.lr_multiple)
        except ValueError as error:
            raise UsageError(f"--{error}") from None
    name = "the package's" if model.path == UPSCALER else given or str(model.path)
    if given is None and model.path != UPSCALER:
        name += ", of the checkout"
    if model.spandrel:
        name += ", by spandrel"
    _say(f"model: {name}, fingerprint {model.fingerprint[:12]}")
    return model


def _upscaler(
    model: "Model", device: str, precision: Any, colour: Any, tile: int | None
) -> "Upscaler":
    from tvqrap.runtime.cores import use_idle_cores
    from tvqrap.runtime.hardware import device_name
    from tvqrap.runtime.memory import keep_freed_memory
    from tvqrap.upscaling.upscaler import Upscaler

    use_idle_cores()
    keep_freed_memory()
    upscaler = Upscaler.from_pretrained(
        model, device, precision=precision, colour=colour, tile=tile
    )
    limits = upscaler.limits
    _say(
        f"device: {device_name(upscaler.device)}, "
        f"tiles of {limits.tile} above {limits.whole / 1000:.0f} kpixel"
    )
    return upscaler


class _Run:
    """The work on all photographs, and its messages."""

    def __init__(self, found: FoundJobs, files: "FileUpscaler") -> None:
        self.found = found
        self.files = files
        self.tasks: list[Task] = []
        self.outcomes: list[Outcome] = []

    def count(self, status: str) -> int:
        return sum(outcome.status == status for outcome in self.outcomes)

    def once(self, load: "Callable[[], Upscaler]", dry_run: bool) -> None:
        """Upscales or lists the photographs. Ends with exit code 1 where something failed."""
        self.check()
        if dry_run:
            self.list_tasks()
        else:
            self.upscale(load)
        if self.count("failed") or self.found.faults:
            raise typer.Exit(1)

    def check(self) -> None:
        """Sorts the photographs into tasks and finished outcomes, and prints the notes."""
        from tvqrap.upscaling.files import Outcome

        for line in self.found.notes:
            _say(line)
        for job in self.found.jobs:
            checked = self.files.check(job)
            if isinstance(checked, Outcome):
                self._add(checked)
            else:
                self.tasks.append(checked)

    def list_tasks(self) -> None:
        """Prints a line for each photograph that would be upscaled."""
        for task in self.tasks:
            sizes = ["x".join(map(str, size)) for size in (task.lr_size, task.size)]
            line = f"{task.job.source} -> {task.job.target}: {sizes[0]} to {sizes[1]}"
            if task.images > 1:
                line += f", {task.images} frames or pages"
            typer.echo(printable(line))
        self._summary(f"{len(self.tasks)} to upscale")

    def upscale(self, load: Callable[[], "Upscaler"]) -> None:
        """Upscales the tasks; `load` makes the upscaler, if there is a task."""
        try:
            if self.tasks:
                self._upscale(load())
        finally:  # also after an interruption
            self._summary(f"{self.count('upscaled')} upscaled")

    def _upscale(self, upscaler: "Upscaler") -> None:
        from tvqrap.runtime.progress import progress
        from tvqrap.upscaling.claims import in_turn

        total = sum(task.pixels for task in self.tasks)
        with progress("upscale", total=-(-total // _UNIT), unit="kpixel") as advance:
            finished = numbered = 0
            note = ""

            def seen(pixels: int, worked: bool = True) -> None:
                nonlocal finished
                count = -(-(finished + pixels) // _UNIT) + finished // -_UNIT
                finished += pixels
                advance(count, note) if worked else advance(0, note, skipped=count)

            def run(task: "Task") -> "Outcome | None":
                nonlocal note, numbered
                note = f"{task.job.source.name} ({numbered + 1} of {len(self.tasks)})"
                before = finished
                outcome = self.files.run_shared(task, upscaler, seen)
                if outcome is not None:
                    numbered += 1
                    # The rest of a photograph that failed half-way is skipped.
                    seen(before + task.pixels - finished, worked=False)
                return outcome

            for _, outcome in in_turn(self.tasks, run):
                self._add(outcome)

    def watch(self, find: Callable[[], FoundJobs], upscaler: "Upscaler") -> None:
        """Upscales photographs as they appear, until Ctrl-C."""
        from tvqrap.upscaling.files import Outcome
        from tvqrap.upscaling.watch import SECONDS_BETWEEN_LOOKS, NewPhotographs

        new, told = NewPhotographs(), set[str]()
        for line in self.found.notes:
            _say(line)
        _say("watching, Ctrl-C ends it")
        try:
            while True:
                for job in new.among(self.found.jobs):
                    checked = self.files.check(job)
                    if isinstance(checked, Outcome):
                        self._tell(checked)
                    else:
                        self.tasks.append(checked)
                self.tasks = [task for task in self.tasks if not self._finish(task, upscaler)]
                for line in self.found.faults:
                    if line not in told:
                        _say(f"error: {line}")
                        told.add(line)
                time.sleep(SECONDS_BETWEEN_LOOKS)
                try:
                    self.found = find()
                except UserError as error:  # the folder may come back
                    self.found = FoundJobs(faults=[str(error)])
        except KeyboardInterrupt:
            pass
        finally:
            _say(self._counts(f"{self.count('upscaled')} upscaled"))

    def _finish(self, task: "Task", upscaler: "Upscaler") -> bool:
        """Whether a task has ended; False if another process works on it."""
        outcome = self.files.run_shared(task, upscaler)
        if outcome is not None:
            self._tell(outcome)
        return outcome is not None

    def _tell(self, outcome: "Outcome") -> None:
        """Prints the outcome of a photograph that has appeared."""
        self._add(outcome)
        if outcome.status == "failed":
            _say(f"error: {outcome.message}")
        elif outcome.status == "upscaled":
            _say(f"{outcome.target}: upscaled")

    def _add(self, outcome: "Outcome") -> None:
        self.outcomes.append(outcome)
        for line in outcome.notes:
            _say(line)

    def _summary(self, done: str) -> None:
        """Prints a line for each failure, and the counts in the last line."""
        failed = [outcome.message for outcome in self.outcomes if outcome.status == "failed"]
        for line in (*self.found.faults, *failed):
            _say(f"error: {line}")
        _say(self._counts(done))

    def _counts(self, done: str) -> str:
        rest = {
            "there already": self.count("exists"),
            "failed": self.count("failed"),
            "inputs not searched": len(self.found.faults),
        }
        return ", ".join([done, *(f"{number} {name}" for name, number in rest.items() if number)])


def _say(line: str) -> None:
    typer.echo(printable(line), err=True)
