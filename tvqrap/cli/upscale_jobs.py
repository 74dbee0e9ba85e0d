"""What `tvqrap-cli upscale` is asked for: which file goes where, in which format."""

import glob
import itertools
import os
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from tvqrap.images.folder import ANYWHERE, LEADS_OUT, scan_folder
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


@dataclass
class FoundJobs:
    """The photographs that inputs stand for."""

    jobs: list[Job] = field(default_factory=list)
    """In the order given; those of a folder sorted."""
    faults: list[str] = field(default_factory=list)
    """One line for each input, or part of one, that yields no photograph although it should."""
    notes: list[str] = field(default_factory=list)
    """One line for each folder of which entries are passed over."""


def find_jobs(
    inputs: list[Path], output: Path, form: "Format", follow_links: bool = False
) -> FoundJobs:
    """Pairs each photograph with its output.

    Globs are expanded and folders searched; `follow_links` is whether links may lead out of a
    folder. The content of the output's folder is left out, and an input that is given twice is one
    job. Photographs of one folder whose outputs would have the same name keep their endings in it
    (`a.jpg.png`, `a.tif.png`). Raises UsageError where outputs collide with each other or with an
    input, UserError where there is nothing to do.
    """
    found = FoundJobs()
    given = [path for pattern in inputs for path in _expanded(pattern, found.faults)]
    if not given:
        raise UserError(found.faults[0])
    if STREAM in given or output == STREAM:
        if len(given) > 1 or is_folder(given[0]):
            raise UsageError(f"{STREAM}: stands for one photograph, expected no other beside it")
        if is_folder(output):
            raise UsageError(f"{output}: is a folder, expected a name for standard input's image")
    if len(given) == 1 and not is_folder(given[0]) and not is_folder(output):
        found.jobs = [_only_job(given[0], output, form)]
    else:
        _check_output_folder(output, form)
        jobs = [job for path in given for job in _jobs(path, output, form, follow_links, found)]
        found.jobs = _with_distinct_names(_once(jobs), form.suffixes[0])
    if not found.jobs and found.faults:
        raise UserError(found.faults[0])
    _check_collisions(found.jobs)
    return found


def _only_job(source: Path, output: Path, form: "Format") -> Job:
    if output.suffix or output == STREAM:
        return Job(source, output)
    if source != STREAM and not is_there(source):
        raise UserError(f"{source}: no such file")
    raise UsageError(
        f"{output}: expected a name with an ending ({', '.join(form.suffixes)}), or an existing "
        "folder"
    )


def _check_output_folder(output: Path, form: "Format") -> None:
    if is_there(output) and not is_folder(output):
        raise UsageError(f"{output}: is a file, expected a folder for several images")
    if not is_folder(output) and output.suffix.lower() in form.suffixes:
        raise UsageError(f"{output}: is the name of an image, expected a folder for several images")


def _jobs(
    path: Path, output: Path, form: "Format", follow_links: bool, found: FoundJobs
) -> list[Job]:
    """The jobs of one input, a file or a folder; what is wrong with it goes to `found`."""
    ending = form.suffixes[0]
    if not is_folder(path):
        return [Job(path, (output / path.name).with_suffix(ending))]
    if output.resolve() == path.resolve():
        raise UsageError(f"{output}: is the folder of the photographs, expected another")
    scan = scan_folder(path, ANYWHERE if follow_links else ())
    made = Path(os.path.realpath(output))
    images = [
        image for image in scan.images if not Path(os.path.realpath(image)).is_relative_to(made)
    ]
    found.faults += scan.fault_lines()
    if scan.passed_over:
        advice = any(entry.reason == LEADS_OUT for entry in scan.passed_over)
        hint = "; --follow-links follows links" if advice else ""
        found.notes.append(f"{path}: {scan.summary()}{hint}")
    if not images and not scan.faults:
        found.faults.append(f"{path}: holds no images")
    return [Job(image, (output / image.relative_to(path)).with_suffix(ending)) for image in images]


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


def _expanded(pattern: Path, faults: list[str]) -> list[Path]:
    """A glob's files, for shells that leave it as it is; anything else unchanged."""
    if is_there(pattern) or not glob.has_magic(str(pattern)):
        return [pattern]
    found = sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207 (absolute too)
    if not found:
        faults.append(f"{pattern}: matches no file")
    return found


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


def _name(path: Path) -> str:
    """A path as disks compare it that take upper and lower case, or NFC and NFD, for the same."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _with_distinct_names(jobs: list[Job], ending: str) -> list[Job]:
    """The jobs, with the source's ending in the names of outputs that would be the same.

    A number is added where that is not enough. Outputs of different folders stay as they are.
    """
    folders: defaultdict[str, list[Path]] = defaultdict(list)
    for job in jobs:
        folders[_name(job.target)].append(job.source.parent)
    shared = {name for name, parents in folders.items() if len(parents) > 1}
    taken = folders.keys() - shared
    distinct = []
    for job in jobs:
        name = _name(job.target)
        if name in shared and len(set(folders[name])) == 1:
            names = (f"{job.source.name}.{number}{ending}" for number in itertools.count(2))
            target = job.target.with_name(job.source.name + ending)
            while _name(target) in taken:
                target = job.target.with_name(next(names))
            taken.add(_name(target))
            job = Job(job.source, target)
        distinct.append(job)
    return distinct


def _check_collisions(jobs: list[Job]) -> None:
    sources: dict[str, Path] = {}
    for job in jobs:
        other = sources.setdefault(_name(job.target), job.source)
        if other != job.source:
            raise UsageError(f"{job.target}: both {other} and {job.source} would be written there")
    inputs = {job.source.resolve() for job in jobs if job.source != STREAM}
    for job in jobs:
        if job.target != STREAM and job.target.resolve() in inputs:
            raise UsageError(f"{job.target}: is an input, expected another name")
