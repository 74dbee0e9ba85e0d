"""Test sets in folders, whose images are matched by name.

Three layouts: HR and LR with equal names in two folders (ImageNet-Test), RealSR V3 as released
(`Canon/Test/4/Canon_001_HR.png` beside `Canon_001_LR4.png`, `Nikon` alike), and LR alone
(RealSet65). Finished images are matched by the same names.
"""

import hashlib
import os
import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tvqrap.architecture import SCALE
from tvqrap.images.reading.folder import ANYWHERE, BROKEN, scan_folder
from tvqrap.photo_io.reader import read_header
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

_LISTED = 10
_REALSR = re.compile(r"(?P<name>.+)_(?P<role>HR|LR4)")
_REALSR_TEST = ("Test", "4")


@dataclass(frozen=True)
class Matched:
    """The files of one test image."""

    name: str
    """Path below its folder, without the ending, printable and in Unicode's form NFC."""
    hr: Path | None
    lr: Path | None
    finished: Mapping[str, Path]
    """Finished images, by model."""


@dataclass(frozen=True)
class MatchedSet:
    """The images of a test set."""

    images: tuple[Matched, ...]
    """Sorted by name."""
    notes: tuple[str, ...]
    """Files that were passed over, one line for each folder that has any."""


@dataclass(frozen=True)
class _Folder:
    """The images of a folder, by name."""

    path: Path
    files: Mapping[str, Path]
    note: str = ""


def match_folders(gt: Path | None, lq: Path | None, finished: Mapping[str, Path]) -> MatchedSet:
    """Matches the images of folders by their path without its ending.

    Without `gt` there is no HR. Raises UserError, listing the images, for names that not every
    folder has, and for sizes that do not fit: LR is a quarter of HR, finished images are as large
    as HR. Files whose size cannot be read are matched all the same: reading them gives the reason.
    """
    hr = None if gt is None else _by_name(gt)
    lr = None if lq is None else _by_name(lq)
    return _matched(hr, lr, {model: _by_name(folder) for model, folder in finished.items()})


def match_realsr(folder: Path, finished: Mapping[str, Path]) -> MatchedSet:
    """Matches `NAME_HR.png` and `NAME_LR4.png` below a folder; names as by `match_folders`.

    Of a whole release, the test images of scale 4 are taken. Finished images may be called `NAME`,
    `NAME_HR` or `NAME_LR4`. Raises UserError as `match_folders` does.
    """
    images, note = _images(folder)
    within = {path: path.relative_to(folder).parts[:-1] for path in images}
    tests = [path for path in images if within[path][-2:] == _REALSR_TEST]
    roles: dict[str, dict[str, Path]] = {"HR": {}, "LR4": {}}
    for path in tests or images:
        found = _REALSR.fullmatch(path.stem)
        if found is not None:
            _put(roles[found["role"]], found["name"], path, folder)
    hr, lr = roles["HR"], roles["LR4"]
    if not hr:
        raise UserError(f"{folder}: holds no images called NAME_HR, expected RealSR as released")
    lonely = [f"{name} has no _LR4" for name in hr if name not in lr]
    lonely += [f"{name} has no _HR" for name in lr if name not in hr]
    if lonely:
        raise UserError(f"{folder}: names do not match: {_listed(lonely)}")
    made = {model: _by_name(path) for model, path in finished.items()}
    ordered = _Folder(folder, dict(sorted(hr.items())), note)
    return _matched(
        ordered, _Folder(folder, lr), {model: _renamed(hr, found) for model, found in made.items()}
    )


def _matched(hr: _Folder | None, lr: _Folder | None, finished: Mapping[str, _Folder]) -> MatchedSet:
    """The images of all folders, after names and sizes were found to match."""
    first = hr if hr is not None else lr
    if first is None:
        raise ValueError("neither HR nor LR")
    folders = [folder for folder in (hr, lr, *finished.values()) if folder is not None]
    problems = [p for folder in folders if folder is not first for p in _unmatched(first, folder)]
    if problems:
        raise UserError(f"{first.path}: names do not match: {_listed(problems)}")
    images = tuple(
        Matched(
            name,
            None if hr is None else hr.files[name],
            None if lr is None else lr.files[name],
            {model: folder.files[name] for model, folder in finished.items()},
        )
        for name in first.files
    )
    problems = [problem for image in images for problem in _wrong_sizes(image)]
    if problems:
        raise UserError(f"{first.path}: sizes do not match: {_listed(problems)}")
    return MatchedSet(images, tuple(folder.note for folder in folders if folder.note))


def _images(folder: Path) -> tuple[list[Path], str]:
    """The images below a folder, and one line about the files that were passed over.

    Links to nowhere are images too: reading them gives the reason.
    """
    scan = scan_folder(folder, ANYWHERE)
    broken = [entry.path for entry in scan.faults if entry.reason == BROKEN]
    unsearched = [line for line in scan.fault_lines() if not line.endswith(BROKEN)]
    if unsearched:
        raise UserError(unsearched[0])
    images = sorted([*scan.images, *broken])
    summary = scan.summary()
    if not images:
        raise UserError(f"{folder}: holds no images{summary and f' ({summary})'}")
    return images, summary and f"{printable(folder)}: {summary}"


def _by_name(folder: Path) -> _Folder:
    images, note = _images(folder)
    files: dict[str, Path] = {}
    for path in images:
        _put(files, path.relative_to(folder).with_suffix("").as_posix(), path, folder)
    return _Folder(folder, dict(sorted(files.items())), note)


def _put(files: dict[str, Path], name: str, path: Path, folder: Path) -> None:
    # File systems and archives of macOS spell letters with accents as two characters.
    name = printable(unicodedata.normalize("NFC", name))
    if name in files:
        names = printable(f"{files[name].name} and {path.name}")
        raise UserError(f"{folder}: {names} have the same name")
    files[name] = path


def _renamed(wanted: Mapping[str, Path], folder: _Folder) -> _Folder:
    """A folder's files by the names that are wanted, where they are called as RealSR's files."""
    files = folder.files
    if any(name in wanted for name in files):
        return folder
    short = {re.sub(r"_(HR|LR4)$", "", Path(name).name): path for name, path in files.items()}
    fits = len(short) == len(files) and any(name in wanted for name in short)
    return _Folder(folder.path, short, folder.note) if fits else folder


def _unmatched(first: _Folder, folder: _Folder) -> list[str]:
    missing = [
        f"{name} is not in {folder.path}" for name in first.files if name not in folder.files
    ]
    only = [f"{name} is only in {folder.path}" for name in folder.files if name not in first.files]
    return missing + only


def _size(path: Path) -> tuple[int, int] | None:
    """Width and height, upright; None where they cannot be read."""
    try:
        header = read_header(path)
    except UserError:
        return None
    return header.width, header.height


def _wrong_sizes(image: Matched) -> list[str]:
    hr = None if image.hr is None else _size(image.hr)
    lr = None if image.lr is None else _size(image.lr)
    problems = []
    if hr is not None and lr is not None and (hr[0] % SCALE or hr[1] % SCALE):
        problems.append(f"{image.hr} is {hr[0]}x{hr[1]}, which is not a multiple of {SCALE}")
    large = hr or (None if lr is None else (SCALE * lr[0], SCALE * lr[1]))
    if large is None:
        return problems
    expected = [(path, large) for path in image.finished.values()]
    if hr is not None and image.lr is not None:
        expected.append((image.lr, (hr[0] // SCALE, hr[1] // SCALE)))
    for path, wanted in expected:
        found = _size(path)
        if found is not None and found != wanted:
            problems.append(f"{path} is {found[0]}x{found[1]}, expected {wanted[0]}x{wanted[1]}")
    return problems


def _listed(problems: Sequence[str]) -> str:
    shown = printable("; ".join(problems[:_LISTED]))
    more = len(problems) - _LISTED
    return f"{shown}; and {more} more" if more > 0 else shown


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 over the names (without folders) and bytes of files, in order.

    A file that cannot be read contributes its name alone.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # a link to nowhere; reading the image gives the reason
            content = "unreadable"
        digest.update(os.fsencode(path.name) + f" {content}\n".encode())
    return digest.hexdigest()
