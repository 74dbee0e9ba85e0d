"""What `tvqrap-cli upscale` is asked for: which file goes where, in which format."""

import glob
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tvqrap.runtime.errors import UsageError, UserError

if TYPE_CHECKING:
    from tvqrap.photo_io.formats import Format

STREAM = Path("-")
"""Standard input or output."""
_ALIASES = {"jpg": "jpeg", "tif": "tiff"}
"""Other names of formats."""


@dataclass(frozen=True)
class Job:
    """One photograph."""

    source: Path
    target: Path


def find_jobs(inputs: list[Path], output: Path, form: "Format") -> tuple[list[Job], list[str]]:
    """Each photograph with its output, in the order given, what is in folders sorted.

    Beside them a line for each folder that could not be searched. Globs are expanded, folders
    searched; links in a folder that lead out of it, and what lies in the output's folder, are left
    out, and what is given twice is done once. Photographs that differ in their endings alone keep
    those in the outputs' names (`a.jpg.png`, `a.tif.png`). Raises UsageError where outputs
    collide with each other or with an input, UserError where there is nothing to do.
    """
    given = [path for pattern in inputs for path in _expanded(pattern)]
    if STREAM in given or output == STREAM:
        if len(given) > 1 or is_folder(given[0]):
            raise UsageError(f"{STREAM}: stands for one photograph, expected no other beside it")
        if is_folder(output):
            raise UsageError(f"{output}: is a folder, expected a name for standard input's image")
    if len(given) == 1 and not is_folder(given[0]) and not is_folder(output):
        if output.suffix or output == STREAM:
            jobs = [Job(given[0], output)]
            _check_collisions(jobs)
            return jobs, []
        if given[0] != STREAM and not is_there(given[0]):
            raise UserError(f"{given[0]}: no such file")
        raise UsageError(
            f"{output}: expected a name with an ending ({', '.join(form.suffixes)}), or an "
            "existing folder"
        )
    if is_there(output) and not is_folder(output):
        raise UsageError(f"{output}: is a file, expected a folder for several images")
    if not is_folder(output) and output.suffix.lower() in form.suffixes:
        raise UsageError(f"{output}: is the name of an image, expected a folder for several images")
    ending = form.suffixes[0]
    jobs, lost = [], []
    for path in given:
        if is_folder(path):
            if output.resolve() == path.resolve():
                raise UsageError(f"{output}: is the folder of the photographs, expected another")
            found, unread = _found(path, output)
            lost += unread
            jobs += [
                Job(source, (output / source.relative_to(path)).with_suffix(ending))
                for source in found
            ]
        else:
            jobs.append(Job(path, (output / path.name).with_suffix(ending)))
    jobs = _with_endings(_once(jobs), ending)
    _check_collisions(jobs)
    return jobs, lost


def is_there(path: Path) -> bool:
    """Whether something of that name can be seen: in a folder without permission, nothing can."""
    return os.path.exists(path)  # noqa: PTH110 (the method of paths raises for such folders)


def is_folder(path: Path) -> bool:
    """As `is_there`, of folders."""
    return os.path.isdir(path)  # noqa: PTH112


def choose_format(name: str | None, output: Path) -> "Format":
    """The format that was asked for, or that the output's ending means, or PNG.

    Raises UsageError for a format that is not known, or that the ending contradicts.
    """
    from tvqrap.photo_io.formats import FORMATS

    name = _ALIASES.get(name or "", name)
    known = ", ".join(FORMATS)
    if name is not None and name not in FORMATS:
        raise UsageError(f"--format: found {name!r}, expected one of {known}")
    suffix = output.suffix.lower()
    if output == STREAM or is_folder(output) or not suffix:
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
    if is_there(pattern) or not glob.has_magic(str(pattern)):
        return [pattern]
    found = sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207 (absolute too)
    if not found:
        raise UserError(f"{pattern}: matches no file")
    return found


def _found(folder: Path, output: Path) -> tuple[list[Path], list[str]]:
    """The images below a folder, sorted, and a line for each folder that could not be searched."""
    from tvqrap.images.open import find_images

    whole, made = folder.resolve(), output.resolve()
    lost: list[str] = []
    found = []
    for path in find_images(folder, lost.append):
        real = Path(os.path.realpath(path))  # whatever loops there are among links
        if real.is_relative_to(whole) and not real.is_relative_to(made):
            found.append(path)
    if not found and not lost:
        raise UserError(f"{folder}: holds no images")
    return found, sorted(lost)


def _once(jobs: list[Job]) -> list[Job]:
    """Without what was given before; a link beside its file is a photograph of its own name."""
    seen: set[Path] = set()
    kept = []
    for job in jobs:
        path = job.source.parent.resolve() / job.source.name
        if path not in seen:
            kept.append(job)
        seen.add(path)
    return kept


def _with_endings(jobs: list[Job], ending: str) -> list[Job]:
    """The jobs, with the source's ending in the names of outputs that would be the same."""
    uses = Counter(job.target for job in jobs)
    return [
        job
        if uses[job.target] == 1
        else Job(job.source, job.target.with_name(job.source.name + ending))
        for job in jobs
    ]


def _check_collisions(jobs: list[Job]) -> None:
    sources: dict[Path, Path] = {}
    for job in jobs:
        if job.target in sources:
            raise UsageError(
                f"{job.target}: both {sources[job.target]} and {job.source} would be written there"
            )
        sources[job.target] = job.source
    inputs = {job.source.resolve() for job in jobs if job.source != STREAM}
    for job in jobs:
        if job.target != STREAM and job.target.resolve() in inputs:
            raise UsageError(f"{job.target}: is an input, expected another name")
