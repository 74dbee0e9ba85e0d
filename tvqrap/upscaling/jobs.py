"""Photographs and the files that their upscaled images go to. Uses neither torch nor numpy."""

import glob
import itertools
import os
import re
import unicodedata
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

from tvqrap.images.reading.folder import ANYWHERE, LEADS_OUT, SUFFIXES, scan_folder
from tvqrap.photo_io.formats import FORMATS, Format, format_like, format_of_name
from tvqrap.runtime.errors import UsageError, UserError

STREAM = Path("-")
"""Standard input or output."""
_ENDINGS = "|".join(map(re.escape, sorted(SUFFIXES)))
_AUTOMATIC = re.compile(rf"_(x[0-9.]+|[0-9]+x[0-9]+)({_ENDINGS})?(\.[0-9]+)?$")
"""Ends the stem of an output whose suffix is not the user's; `_with_distinct_names` adds the rest:
the photograph's ending and a number."""


@dataclass(frozen=True)
class Job:
    """One photograph."""

    source: Path
    target: Path
    form: Format
    """The target's format."""


@dataclass(frozen=True)
class Output:
    """The place of outputs, and how their names are made from those of the photographs."""

    path: Path | None = None
    """A file for one photograph, or a folder; None: beside each photograph."""
    folder: bool = False
    """Whether the path is a folder, although one photograph is given."""
    suffix: str = ""
    """Follows the photograph's name: `_x4` makes `a_x4.jpg` of `a.jpg`."""
    form: Format | None = None
    """None: the format of the name that is given, or else of the photograph."""

    def job(self, source: Path, below: Path) -> Job:
        """The job of a photograph whose name is `below` in the folder of outputs."""
        form = self.form or format_like(source)
        ending = source.suffix if source.suffix.lower() in form.suffixes else form.suffixes[0]
        name = source.stem + self.suffix + ending
        if self.path is None:
            return Job(source, source.with_name(name), form)
        return Job(source, (self.path / below).with_name(name), form)


@dataclass
class FoundJobs:
    """The photographs that inputs stand for."""

    jobs: list[Job] = field(default_factory=list)
    """In the order given; those of a folder sorted."""
    faults: list[str] = field(default_factory=list)
    """One line for each input, or part of one, that yields no photograph although it should."""
    notes: list[str] = field(default_factory=list)
    """One line for each folder of which entries are passed over, and one for outputs."""


def find_jobs(
    inputs: list[Path],
    output: Output,
    *,
    recursive: bool = True,
    follow_links: bool = False,
    may_be_empty: bool = False,
) -> FoundJobs:
    """Pairs each photograph with its output.

    Globs are expanded and folders searched; `follow_links` is whether links may lead out of a
    folder, `may_be_empty` whether a folder without images is no fault. The content of the output's
    folder and outputs beside their photographs are left out, and an input that is given twice is
    one job. Photographs of one folder whose outputs would have the same name keep their endings in
    it (`a.bmp.png`, `a.gif.png`). Raises UsageError where outputs collide with each other or with
    an input, UserError where there is nothing to do.
    """
    found = FoundJobs()
    given = [path for pattern in inputs for path in _expanded(pattern, found.faults)]
    if not given:
        raise UserError(found.faults[0])
    _check_streams(given, output)
    if _is_file(given, output):
        found.jobs = [_only_job(given[0], output)]
    else:
        _check_output_folder(output, given)
        jobs = [
            job
            for path in given
            for job in _jobs(
                path,
                output,
                found,
                recursive=recursive,
                follow_links=follow_links,
                may_be_empty=may_be_empty,
            )
        ]
        found.jobs = _without_outputs(_with_distinct_names(_once(jobs)), output, found)
    if not found.jobs and found.faults:
        raise UserError(found.faults[0])
    _check_collisions(found.jobs)
    return found


def _check_streams(given: list[Path], output: Output) -> None:
    if STREAM not in given and output.path != STREAM:
        return
    if len(given) > 1 or is_folder(given[0]):
        raise UsageError(f"{STREAM}: stands for one photograph, expected no other beside it")
    if output.path is None or not _is_file(given, output):
        raise UsageError(
            f"{output.path or 'output'}: expected a file's name, or {STREAM}, for standard input's "
            "image"
        )


def _is_file(given: list[Path], output: Output) -> bool:
    """Whether the output is the name of one file."""
    if output.path is None or output.folder or is_folder(output.path):
        return False
    named = output.path == STREAM or bool(output.path.suffix)
    return named and len(given) == 1 and not is_folder(given[0])


def _only_job(source: Path, output: Output) -> Job:
    target = output.path
    assert target is not None
    if output.suffix:
        raise UsageError(f"{target}: is a file's name, expected a folder with --suffix")
    if target == STREAM:
        return Job(source, target, output.form or format_like(source))
    meant = format_of_name(target)
    if meant is None:
        endings = ", ".join(suffix for form in FORMATS.values() for suffix in form.suffixes)
        raise UsageError(f"{target}: expected a name that ends in one of {endings}, or a folder")
    if output.form is not None and output.form != meant:
        raise UsageError(
            f"{target}: does not end in {' or '.join(output.form.suffixes)}, as format "
            f"{output.form.name} asks for"
        )
    return Job(source, target, meant)


def _check_output_folder(output: Output, given: list[Path]) -> None:
    folder = output.path
    if folder is None or is_folder(folder):
        return
    if is_there(folder):
        raise UsageError(f"{folder}: is a file, expected a folder")
    if not output.folder and format_of_name(folder) is not None:
        raise UsageError(f"{folder}: is the name of an image, expected a folder for several images")


def _jobs(
    path: Path,
    output: Output,
    found: FoundJobs,
    *,
    recursive: bool,
    follow_links: bool,
    may_be_empty: bool,
) -> list[Job]:
    """The jobs of one input, a file or a folder; what is wrong with it goes to `found`."""
    if not is_folder(path):
        return [output.job(path, Path(path.name))]
    made = None if output.path is None else _resolved(output.path)
    if made == _resolved(path):
        if not output.suffix:
            raise UsageError(
                f"{output.path}: is the folder of the photographs, expected another, or a suffix"
            )
        made = None
    scan = scan_folder(path, ANYWHERE if follow_links else (), recursive=recursive)
    images = [
        image for image in scan.images if made is None or not _resolved(image).is_relative_to(made)
    ]
    found.faults += scan.fault_lines()
    if scan.passed_over:
        advice = any(entry.reason == LEADS_OUT for entry in scan.passed_over)
        hint = "; --follow-links follows links" if advice else ""
        found.notes.append(f"{path}: {scan.summary()}{hint}")
    if not images and not scan.faults and not may_be_empty:
        found.faults.append(f"{path}: holds no images")
    return [output.job(image, image.relative_to(path)) for image in images]


def _without_outputs(jobs: list[Job], output: Output, found: FoundJobs) -> list[Job]:
    """The jobs whose photographs are no outputs of others; only where a suffix tells them apart."""
    if not output.suffix:
        return jobs
    targets = {_name(_real(job.target)) for job in jobs}
    stems = {_name(_real(job.source).with_suffix("")) for job in jobs}

    def is_output(source: Path) -> bool:
        stem = _name(_real(source).with_suffix(""))
        # Outputs of another size count too: a_x2.jpg and a_x2.gif.png beside a.jpg.
        origin = _AUTOMATIC.sub("", stem)
        return _name(_real(source)) in targets or (origin != stem and origin in stems)

    kept = [job for job in jobs if not is_output(job.source)]
    if len(kept) < len(jobs):
        count = len(jobs) - len(kept)
        found.notes.append(
            f"passed over: {count} output{'s' if count > 1 else ''} of the photographs beside"
        )
    return kept


def _real(path: Path) -> Path:
    """A path whose folder is resolved, and its name as it is."""
    return _resolved(path.parent) / path.name


def _resolved(path: Path) -> Path:
    """As `Path.resolve`, which raises an error of its own for links in a circle."""
    return Path(os.path.realpath(path))


def is_there(path: Path) -> bool:
    """Whether a path exists; False in a folder without permission."""
    return os.path.exists(path)  # noqa: PTH110 (the method of paths raises for such folders)


def is_folder(path: Path) -> bool:
    """Whether a path is a folder; False in a folder without permission."""
    return os.path.isdir(path)  # noqa: PTH112


def is_glob(path: Path) -> bool:
    """Whether a path is a pattern of names, and not itself the name of a file or folder."""
    return glob.has_magic(str(path)) and not is_there(path)


def _expanded(pattern: Path, faults: list[str]) -> list[Path]:
    """A glob's files, for shells that leave it as it is; anything else unchanged."""
    if not is_glob(pattern):
        return [pattern]
    found = sorted(map(Path, glob.glob(str(pattern), recursive=True)))  # noqa: PTH207 (absolute too)
    if not found:
        faults.append(f"{pattern}: matches no file")
    return found


def _once(jobs: list[Job]) -> list[Job]:
    """The jobs without repeated sources; a link beside its file counts as another photograph."""
    seen: set[Path] = set()
    kept = []
    for job in jobs:
        path = _real(job.source)
        if path not in seen:
            kept.append(job)
        seen.add(path)
    return kept


def _name(path: Path) -> str:
    """A path in the form that case-insensitive and Unicode-normalising disks compare."""
    return unicodedata.normalize("NFC", str(path)).casefold()


def _with_distinct_names(jobs: list[Job]) -> list[Job]:
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
            ending = job.target.suffix
            stem = job.target.stem + job.source.suffix
            names = (f"{stem}.{number}{ending}" for number in itertools.count(2))
            target = job.target.with_name(stem + ending)
            while _name(target) in taken:
                target = job.target.with_name(next(names))
            taken.add(_name(target))
            job = replace(job, target=target)
        distinct.append(job)
    return distinct


def _check_collisions(jobs: list[Job]) -> None:
    sources: dict[str, Path] = {}
    for job in jobs:
        other = sources.setdefault(_name(job.target), job.source)
        if other != job.source:
            raise UsageError(f"{job.target}: both {other} and {job.source} would be written there")
    inputs = {_resolved(job.source) for job in jobs if job.source != STREAM}
    for job in jobs:
        if job.target != STREAM and _resolved(job.target) in inputs:
            raise UsageError(f"{job.target}: is an input, expected another name")
