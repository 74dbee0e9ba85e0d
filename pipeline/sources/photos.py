"""Photographs in a folder: finding them, giving them keys, decoding them, saying what is lost."""

import hashlib
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config import DataSettings
from pipeline.shards.manifest import Skipped
from tvqrap.images.open import read_image
from tvqrap.runtime.errors import UserError

COMPANIONS = frozenset({".md", ".txt", ".json", ".csv", ".yaml", ".yml", ".dvc"})
"""Endings of files that lie beside photographs (credits, labels) and are no lost photographs."""

_MAX_KEY = 60  # a tar name has at most 100 characters


@dataclass(frozen=True)
class Photo:
    """A photograph that may or may not be readable."""

    key: str
    """Letters, digits, `_` and `-`, at most 60; unique in its folder."""
    name: str
    """Path relative to the folder, with `/`."""


class UnusableError(Exception):
    """A photograph that cannot be used; the message is the reason alone."""


def discover(folder: Path) -> tuple[list[Photo], list[Skipped]]:
    """Photographs below a folder, sorted by name, and what was passed over.

    Hidden files and folders and companions (credits, labels) are left out in silence. Links that
    lead out of the folder, linked folders, folders that cannot be searched and what is no regular
    file are lost, with the reason.
    UserError where there is no folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: not found, expected a folder of photographs")
    root = folder.resolve()
    names, lost = [], []

    def unsearched(error: OSError) -> None:
        name = Path(error.filename).relative_to(root).as_posix()
        lost.append(Skipped(name, f"a folder that cannot be searched ({error.strerror})"))

    for parent, folders, files in os.walk(root, onerror=unsearched):
        folders[:] = [name for name in folders if not name.startswith(".")]
        here = Path(parent)
        lost += [
            Skipped((here / name).relative_to(root).as_posix(), "a linked folder, not followed")
            for name in folders
            if (here / name).is_symlink()
        ]
        for file in files:
            path = here / file
            if file.startswith(".") or path.suffix.lower() in COMPANIONS:
                continue
            name = path.relative_to(root).as_posix()
            if not _is_text(name):
                readable = name.encode("utf-8", "backslashreplace").decode()
                lost.append(Skipped(readable, "its name is not UTF-8"))
            elif path.is_symlink() and not _real(path).is_relative_to(root):
                lost.append(Skipped(name, "a link that leads out of the folder"))
            elif not path.is_file():
                lost.append(Skipped(name, "not a regular file"))
            else:
                names.append(name)
    photos = [Photo(key, name) for name, key in photo_keys(sorted(names)).items()]
    return photos, sorted(lost, key=lambda entry: entry.name)


def _real(link: Path) -> Path:
    """Where a link leads; of one that leads in a circle, itself."""
    try:
        return link.resolve()
    except (OSError, RuntimeError):  # the latter before Python 3.13
        return link


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates
        return False
    return True


def photo_keys(names: list[str]) -> dict[str, str]:
    """A key for each relative path: the path without its ending, `/` as `-`.

    Where that is not unique, too long or has other characters than letters, digits, `_` and `-`,
    they become `_` and eight hexadecimal digits of the path's SHA-256 are added.
    """
    plain = {name: str(Path(name).with_suffix("")).replace("/", "-") for name in names}
    uses = Counter(key.lower() for key in plain.values())
    keys = {}
    for name, key in plain.items():
        if not re.fullmatch(rf"[A-Za-z0-9_-]{{1,{_MAX_KEY}}}", key) or uses[key.lower()] > 1:
            digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
            key = f"{re.sub('[^A-Za-z0-9_-]', '_', key)[: _MAX_KEY - 9]}-{digest}"
        keys[name] = key
    if len(set(keys.values())) != len(keys):
        raise UserError("two photographs come to the same key, expected other file names")
    return keys


def decode(folder: Path, photo: Photo, settings: DataSettings) -> np.ndarray:
    """Decode a photograph to uint8 (H, W, 3) RGB, upright, transparency laid over white.

    Raises UnusableError for one that is not an image, truncated, over `max_pixels` (checked before
    its pixels are decoded), or with a side under `min_side`.
    """
    path = folder / photo.name
    try:
        image = read_image(path, max_pixels=settings.max_pixels)
    except UserError as error:
        raise UnusableError(str(error).removeprefix(f"{path}: ")) from None
    except Exception as error:  # a damaged file can raise anything in a decoder
        raise UnusableError(f"{type(error).__name__} while decoding: {error}") from None
    if min(image.size) < settings.min_side:
        raise UnusableError(
            f"{image.width}x{image.height} pixels, expected a shorter side of at least "
            f"{settings.min_side}"
        )
    return np.asarray(image)
