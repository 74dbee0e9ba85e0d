"""Photographs in a folder: finding them, giving them keys, decoding them."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config import DataSettings
from pipeline.shards.manifest import Skipped
from pipeline.sources.dvc_cache import dvc_caches
from tvqrap.images.reading.folder import LEADS_OUT, SPECIAL, FolderScan, PassedOver, scan_folder
from tvqrap.images.reading.open import read_image
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

_READABLE = 43
_DIGEST = 16
"""Characters of a key. A tar name has at most 100, and keys of samples add up to seven."""


@dataclass(frozen=True)
class Photo:
    """An image file of a folder, readable or not."""

    key: str
    """`photo_key` of the name."""
    name: str
    """Path relative to the folder, with `/`."""


@dataclass(frozen=True)
class FoundPhotos:
    """The listing of a folder of photographs."""

    photos: list[Photo]
    """Sorted by name."""
    skipped: list[Skipped]
    """Sorted: images that cannot be used, and folders that cannot be searched."""
    passed_over: str
    """Counts, by reason, of what is no photograph, in one line; empty where there is nothing."""


class UnusableError(Exception):
    """A photograph that cannot be used; the message is the reason alone."""


def discover(folder: Path) -> FoundPhotos:
    """Lists the photographs below a folder by their endings, as `scan_folder` does.

    Hidden files, companions of photographs (credits, labels, sidecars) and folders of thumbnails
    are passed over. Links may lead into the DVC cache of the checkout; images behind other links
    out of the folder are skipped, with the reason. UserError where there is no folder.
    """
    scan = scan_folder(folder, dvc_caches(Path.cwd()))
    unreadable = [entry for entry in scan.passed_over if entry.reason in (LEADS_OUT, SPECIAL)]
    skipped = [
        Skipped(printable(entry.path.relative_to(folder).as_posix()), entry.reason)
        for entry in (*scan.faults, *unreadable)
    ]
    photos = []
    for path in scan.images:
        name = path.relative_to(folder).as_posix()
        if _is_text(name):
            photos.append(Photo(photo_key(name), name))
        else:
            skipped.append(Skipped(printable(name), "its name is not UTF-8"))
    if len({photo.key for photo in photos}) != len(photos):
        raise UserError(f"{folder}: two photographs have the same key, expected other file names")
    return FoundPhotos(
        sorted(photos, key=lambda photo: photo.name),
        sorted(skipped, key=lambda entry: entry.name),
        _summary(entry for entry in scan.passed_over if entry.reason not in (LEADS_OUT, SPECIAL)),
    )


def _summary(passed_over: Iterable[PassedOver]) -> str:
    return FolderScan(passed_over=list(passed_over)).summary()


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates
        return False
    return True


def photo_key(name: str) -> str:
    """The key of a photograph, which follows from its relative path alone.

    The path without its ending, with `_` or `-` for all but letters and digits, at most 43
    characters of it, then `-` and 64 bits of the path's SHA-256 in hexadecimal.
    """
    readable = str(Path(name).with_suffix("")).replace("/", "-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', readable)[:_READABLE]}-{digest}"


def decode(folder: Path, photo: Photo, settings: DataSettings) -> np.ndarray:
    """Decode a photograph to uint8 (H, W, 3) RGB, upright, transparency laid over white.

    Raises UnusableError for one that is not an image, truncated, over `max_pixels` (checked before
    its pixels are decoded), or with a side under `min_side`.
    """
    path = folder / photo.name
    try:
        image = read_image(path, max_pixels=settings.max_pixels)
    except UserError as error:
        raise UnusableError(str(error).removeprefix(f"{printable(path)}: ")) from None
    if min(image.size) < settings.min_side:
        raise UnusableError(
            f"{image.width}x{image.height} pixels, expected a shorter side of at least "
            f"{settings.min_side}"
        )
    return np.asarray(image)
