"""What `tvqrap-cli upscale` is asked for: which file goes where, in which format."""

import glob
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tvqrap.errors import UsageError, UserError

if TYPE_CHECKING:
    from tvqrap.photo_files import Format

STREAM = Path("-")
"""Standard input or output."""


@dataclass(frozen=True)
class Job:
    """One photograph."""

    source: Path
    target: Path


def find_jobs(inputs: list[Path], output: Path, form: "Format") -> list[Job]:
    """Each photograph with its output, in the order given, what is in folders sorted.

    Globs are expanded, folders searched; links in a folder that lead out of it, and what lies in
    the output's folder, are left out. Raises UsageError where outputs collide with each other or
    with an input, UserError where there is nothing to do.
    """
    if STREAM in inputs or output == STREAM:
        if len(inputs) > 1 or inputs[0].is_dir():
            raise UsageError(f"{STREAM}: stands for one photograph, expected no other beside it")
        if output.is_dir():
            raise UsageError(f"{output}: is a folder, expected a name for standard input's image")
        return [Job(inputs[0], output)]
    given = [path for pattern in inputs for path in _expanded(pattern)]
    if len(given) == 1 and not given[0].is_dir() and not output.is_dir():
        if output.suffix:
            jobs = [Job(given[0], output)]
            _refuse_collisions(jobs)
            return jobs
        raise UsageError(
            f"{output}: expected a name with an ending ({', '.join(form.suffixes)}), or an "
            "existing folder"
        )
    if output.exists() and not output.is_dir():
        raise UsageError(f"{output}: is a file, expected a folder for several images")
    jobs = []
    for path in given:
        if path.is_dir():
            if output.resolve() == path.resolve():
                raise UsageError(f"{output}: is the folder of the photographs, expected another")
            jobs += [
                Job(source, (output / source.relative_to(path)).with_suffix(form.suffixes[0]))
                for source in _found(path, output)
            ]
        else:
            jobs.append(Job(path, (output / path.name).with_suffix(form.suffixes[0])))
    _refuse_collisions(jobs)
    return jobs


def choose_format(name: str | None, output: Path) -> "Format":
    """The format that was asked for, or that the output's ending means, or PNG.

    Raises UsageError for a format that is not known, or that the ending contradicts.
    """
    from tvqrap.photo_files import FORMATS

    known = ", ".join(FORMATS)
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format: found {name!r}, expected one of {known}")
    suffix = output.suffix.lower()
    if output == STREAM or output.is_dir() or not suffix:
        return FORMATS[name or "png"]
    meant = [form for form in FORMATS.values() if suffix in form.suffixes]
    if name is not None and FORMATS[name] not in meant:
        raise UsageError(
            f"{output}: does not end in {' or '.join(FORMATS[name].suffixes)}, as --format "
            f"{name} asks for"
        )
    if not meant:
        endings = ", ".join(suffix for form in FORMATS.values() for suffix in form.suffixes)
        raise UsageError(f"{output}: expected a name that ends in one of {endings}, or a folder")
    return meant[0]


def _expanded(pattern: Path) -> list[Path]:
    """A glob's files, for shells that leave it as it is; anything else unchanged."""
    if pattern.exists() or not glob.has_magic(str(pattern)):
        return [pattern]
    found = sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207 (absolute too)
    if not found:
        raise UserError(f"{pattern}: matches no file")
    return found


def _found(folder: Path, output: Path) -> list[Path]:
    from tvqrap.images import find_images

    whole, made = folder.resolve(), output.resolve()
    found = []
    for path in find_images(folder):
        real = path.resolve()
        if real.is_relative_to(whole) and not real.is_relative_to(made):
            found.append(path)
    if not found:
        raise UserError(f"{folder}: holds no images")
    return found


def _refuse_collisions(jobs: list[Job]) -> None:
    sources: dict[Path, Path] = {}
    for job in jobs:
        if job.target in sources:
            raise UsageError(
                f"{job.target}: both {sources[job.target]} and {job.source} would be written there"
            )
        sources[job.target] = job.source
    inputs = {job.source.resolve() for job in jobs}
    for job in jobs:
        if job.target.resolve() in inputs:
            raise UserError(f"{job.target}: would be written over, and is an input")
