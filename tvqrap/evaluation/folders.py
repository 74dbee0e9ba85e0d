"""Folders of images that belong together by name: HR, LR and what upscalers made."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from tvqrap.architecture import SCALE
from tvqrap.errors import UserError
from tvqrap.images import find_images

_LISTED = 10


@dataclass(frozen=True)
class Matched:
    """The files of one test image."""

    name: str
    """Path below its folder, without the ending."""
    hr: Path
    lr: Path | None
    finished: Mapping[str, Path]
    """By model: images that were made elsewhere."""


def match_folders(gt: Path, lq: Path | None, finished: Mapping[str, Path]) -> list[Matched]:
    """Matches the images of folders by their path without its ending, sorted.

    Raises UserError, listing the images, for names that not every folder has, and for sizes that
    are not HR's (in `finished`) or a quarter of it (in `lq`). Files whose size cannot be read are
    let through: reading them will say why.
    """
    hr = _by_name(gt)
    others = {model: _by_name(folder) for model, folder in finished.items()}
    lr = None if lq is None else _by_name(lq)
    problems = [
        p for model, files in others.items() for p in _unmatched(hr, files, finished[model])
    ]
    if lr is not None and lq is not None:
        problems += _unmatched(hr, lr, lq)
    if problems:
        raise UserError(f"{gt}: names do not match: {_listed(problems)}")
    matched = [
        Matched(
            name,
            path,
            None if lr is None else lr[name],
            {model: files[name] for model, files in others.items()},
        )
        for name, path in hr.items()
    ]
    problems = [problem for case in matched for problem in _wrong_sizes(case)]
    if problems:
        raise UserError(f"{gt}: sizes do not match: {_listed(problems)}")
    return matched


def _by_name(folder: Path) -> dict[str, Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder, expected a folder of images")
    files: dict[str, Path] = {}
    for path in find_images(folder):
        name = path.relative_to(folder).with_suffix("").as_posix()
        if name in files:
            raise UserError(f"{folder}: {files[name].name} and {path.name} have the same name")
        files[name] = path
    if not files:
        raise UserError(f"{folder}: holds no images")
    return files


def _unmatched(hr: Mapping[str, Path], files: Mapping[str, Path], folder: Path) -> list[str]:
    missing = [f"{name} is not in {folder}" for name in hr if name not in files]
    return missing + [f"{name} is only in {folder}" for name in files if name not in hr]


def _size(path: Path) -> tuple[int, int] | None:
    try:
        with Image.open(path) as image:
            width, height = image.size
            orientation = image.getexif().get(0x0112, 1)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None
    return (height, width) if orientation in (5, 6, 7, 8) else (width, height)


def _wrong_sizes(case: Matched) -> list[str]:
    hr = _size(case.hr)
    if hr is None:
        return []
    expected = [(path, hr) for path in case.finished.values()]
    problems = []
    if case.lr is not None:
        if hr[0] % SCALE or hr[1] % SCALE:
            problems.append(f"{case.hr} is {hr[0]}x{hr[1]}, which is not a multiple of {SCALE}")
        expected.append((case.lr, (hr[0] // SCALE, hr[1] // SCALE)))
    for path, wanted in expected:
        found = _size(path)
        if found is not None and found != wanted:
            problems.append(f"{path} is {found[0]}x{found[1]}, expected {wanted[0]}x{wanted[1]}")
    return problems


def _listed(problems: list[str]) -> str:
    shown = "; ".join(problems[:_LISTED])
    more = len(problems) - _LISTED
    return f"{shown}; and {more} more" if more > 0 else shown


def fingerprint(files: Sequence[Path]) -> str:
    """SHA-256 over the names (without folders) and bytes of files, in order."""
    digest = hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {content}\n".encode())
    return digest.hexdigest()
