"""Test sets in folders: images that belong together by name.

Three layouts: HR and LR in folders of their own with equal names (ImageNet-Test), RealSR V3 as
released (`Canon/Test/4/Canon_001_HR.png` beside `Canon_001_LR4.png`, `Nikon` alike), and LR alone
(RealSet65). Images that were made elsewhere are found by the same names.
"""

import hashlib
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tvqrap.architecture import SCALE
from tvqrap.images.folder import find_images
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import readable

_LISTED = 10
_REALSR = re.compile(r"(?P<name>.+)_(?P<role>HR|LR4)")
_REALSR_TEST = ("Test", "4")


@dataclass(frozen=True)
class Matched:
    """The files of one test image."""

    name: str
    """Path below its folder, without the ending; bytes that are no UTF-8 as `\\xNN`."""
    hr: Path | None
    lr: Path | None
    finished: Mapping[str, Path]
    """By model: images that were made elsewhere."""


def match_folders(
    gt: Path | None, lq: Path | None, finished: Mapping[str, Path]
) -> tuple[Matched, ...]:
    """Matches the images of folders by their path without its ending, sorted.

    Without `gt` there is no HR. Raises UserError, listing the images, for names that not every
    folder has, and for sizes that do not fit: LR is a quarter of HR, finished images are as large
    as HR. Files whose size cannot be read are let through: reading them will say why.
    """
    hr = None if gt is None else _by_name(gt)
    lr = None if lq is None else _by_name(lq)
    first, where = (hr, gt) if hr is not None else (lr, lq)
    if first is None or where is None:
        raise ValueError("neither HR nor LR")
    others = {lq: lr} if lq is not None and lr is not None and lr is not first else {}
    return _matched(first, where, hr, lr, others, finished)


def match_realsr(folder: Path, finished: Mapping[str, Path]) -> tuple[Matched, ...]:
    """Matches `NAME_HR.png` and `NAME_LR4.png` below a folder; names as by `match_folders`.

    Of a whole release, that is the test images of scale 4. Finished images may be called `NAME`,
    or as the image that they were made of. Raises UserError as `match_folders` does.
    """
    images = _images(folder)
    within = {path: path.relative_to(folder).parts[:-1] for path in images}
    tests = [path for path in images if within[path][-2:] == _REALSR_TEST]
    roles: dict[str, dict[str, Path]] = {"HR": {}, "LR4": {}}
    for path in tests or images:
        found = _REALSR.fullmatch(path.stem)
        if found is not None:
            _put(roles[found["role"]], readable(found["name"]), path, folder)
    hr, lr = roles["HR"], roles["LR4"]
    if not hr:
        raise UserError(f"{folder}: holds no images called NAME_HR, expected RealSR as released")
    lonely = [f"{name} has no _LR4" for name in hr if name not in lr]
    lonely += [f"{name} has no _HR" for name in lr if name not in hr]
    if lonely:
        raise UserError(f"{folder}: names do not match: {_listed(lonely)}")
    return _matched(dict(sorted(hr.items())), folder, hr, lr, {}, finished)


def _matched(
    first: Mapping[str, Path],
    where: Path,
    hr: Mapping[str, Path] | None,
    lr: Mapping[str, Path] | None,
    others: Mapping[Path, Mapping[str, Path]],
    finished: Mapping[str, Path],
) -> tuple[Matched, ...]:
    """All cases of the names in `first`, after names and sizes were found to match."""
    made = {model: _by_name(folder) for model, folder in finished.items()}
    for model, files in made.items():
        made[model] = _called_as(first, files)
    problems = [p for folder, files in others.items() for p in _unmatched(first, files, folder)]
    problems += [p for m, files in made.items() for p in _unmatched(first, files, finished[m])]
    if problems:
        raise UserError(f"{where}: names do not match: {_listed(problems)}")
    matched = tuple(
        Matched(
            name,
            None if hr is None else hr[name],
            None if lr is None else lr[name],
            {model: files[name] for model, files in made.items()},
        )
        for name in first
    )
    problems = [problem for case in matched for problem in _wrong_sizes(case)]
    if problems:
        raise UserError(f"{where}: sizes do not match: {_listed(problems)}")
    return matched


def _images(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected a folder of images")
    images = find_images(folder)
    if not images:
        raise UserError(f"{folder}: holds no images")
    return images


def _by_name(folder: Path) -> dict[str, Path]:
    files: dict[str, Path] = {}
    for path in _images(folder):
        _put(files, readable(path.relative_to(folder).with_suffix("").as_posix()), path, folder)
    return files


def _put(files: dict[str, Path], name: str, path: Path, folder: Path) -> None:
    if name in files:
        names = readable(f"{files[name].name} and {path.name}")
        raise UserError(f"{folder}: {names} have the same name")
    files[name] = path


def _called_as(wanted: Mapping[str, Path], files: dict[str, Path]) -> dict[str, Path]:
    """Files by the names that are wanted, where they are called after RealSR's files."""
    if any(name in wanted for name in files):
        return files
    short = {re.sub(r"_(HR|LR4)$", "", Path(name).name): path for name, path in files.items()}
    return short if len(short) == len(files) and any(n in wanted for n in short) else files


def _unmatched(first: Mapping[str, Path], files: Mapping[str, Path], folder: Path) -> list[str]:
    missing = [f"{name} is not in {folder}" for name in first if name not in files]
    return missing + [f"{name} is only in {folder}" for name in files if name not in first]


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def _wrong_sizes(case: Matched) -> list[str]:
    hr = None if case.hr is None else _size(case.hr)
    lr = None if case.lr is None else _size(case.lr)
    problems = []
    if hr is not None and lr is not None and (hr[0] % SCALE or hr[1] % SCALE):
        problems.append(f"{case.hr} is {hr[0]}x{hr[1]}, which is not a multiple of {SCALE}")
    large = hr or (None if lr is None else (SCALE * lr[0], SCALE * lr[1]))
    if large is None:
        return problems
    expected = [(path, large) for path in case.finished.values()]
    if hr is not None and case.lr is not None:
        expected.append((case.lr, (hr[0] // SCALE, hr[1] // SCALE)))
    for path, wanted in expected:
        found = _size(path)
        if found is not None and found != wanted:
            problems.append(f"{path} is {found[0]}x{found[1]}, expected {wanted[0]}x{wanted[1]}")
    return problems


def _listed(problems: list[str]) -> str:
    shown = readable("; ".join(problems[:_LISTED]))
    more = len(problems) - _LISTED
    return f"{shown}; and {more} more" if more > 0 else shown


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 over the names (without folders) and bytes of files, in order.

    A file that cannot be read counts by its name.
    """
    digest = hashlib.sha256()
    for path in files:
        try:
            with path.open("rb") as file:
                content = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError:  # a link to nowhere: reading the image will say so
            content = "unreadable"
        digest.update(os.fsencode(path.name) + f" {content}\n".encode())
    return digest.hexdigest()
