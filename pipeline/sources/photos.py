"""Photographs: finding those of a folder, giving them keys, reading and decoding them."""

import hashlib
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from pipeline.config import DataSettings
from pipeline.shards.manifest import Skipped
from pipeline.sources.dvc_cache import dvc_caches
from pipeline.sources.scan_table import FileState
from pipeline.storage.content import check_size, plain_path, read_content
from pipeline.storage.location import file_sha256
from tvqrap.images.reading.folder import LEADS_OUT, SPECIAL, FolderScan, PassedOver, scan_folder
from tvqrap.images.reading.open import read_image
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

_READABLE = 43
_DIGEST = 16
"""Characters of a key. A tar name has at most 100, and keys of samples add up to seven."""


@dataclass(frozen=True)
class Photo:
    """An image of a source, readable or not."""

    key: str
    """`photo_key` of the name."""
    name: str
    """Path relative to the folder, with `/`; in an archive the name of the member."""
    locator: str = ""
    """Place of its content, see `pipeline.storage.content`; empty: the file `name` of the folder
    that `data.photos` names."""


@dataclass(frozen=True)
class FoundPhotos:
    """The listing of a source of photographs, or of several."""

    photos: list[Photo]
    """Sorted by name."""
    skipped: list[Skipped]
    """Sorted: images that cannot be used, and folders that cannot be searched."""
    passed_over: str
    """Number of files that are no photographs, by reason, in one line; empty where there are
    none."""
    states: Mapping[str, FileState] = field(default_factory=dict)
    """By locator, the states that the listing knows."""


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
        if is_text(name):
            photos.append(Photo(photo_key(name), name))
        else:
            skipped.append(Skipped(printable(name), "its name is not UTF-8"))
    return FoundPhotos(
        sorted(photos, key=lambda photo: photo.name),
        sorted(skipped, key=lambda entry: entry.name),
        _summary(entry for entry in scan.passed_over if entry.reason not in (LEADS_OUT, SPECIAL)),
    )


def _summary(passed_over: Iterable[PassedOver]) -> str:
    return FolderScan(passed_over=list(passed_over)).summary()


def is_text(name: str) -> bool:
    """Whether the bytes of a file name are UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:  # bytes that are not UTF-8 come as lone surrogates
        return False
    return True


def photo_key(name: str) -> str:
    """The key of a photograph, which follows from its relative path alone.

    The key is the path without its ending, with `_` or `-` for all but letters and digits, up to 43
    characters. Then follow `-` and 64 bits of the path's SHA-256 in hexadecimal.
    """
    readable = str(Path(name).with_suffix("")).replace("/", "-")
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_DIGEST]
    return f"{re.sub('[^A-Za-z0-9_-]', '_', readable)[:_READABLE]}-{digest}"


def content_of(folder: Path, photo: Photo) -> Path | bytes:
    """The file of a photograph, or its content where it is no file on disk.

    Raises UnusableError where it cannot be read, and where it has more than `MAX_BYTES`.
    """
    path = plain_path(photo.locator) if photo.locator else folder / photo.name
    try:
        if path is None:
            return read_content(photo.locator)
        check_size(path.stat().st_size)
        return path
    except FileNotFoundError:
        raise UnusableError("no such file") from None
    except (OSError, ValueError) as error:
        raise UnusableError(f"cannot be read ({printable(str(error))})") from None


def decode(content: Path | bytes, settings: DataSettings) -> np.ndarray:
    """Decode a photograph to uint8 (H, W, 3) RGB, upright, transparency laid over white.

    Raises UnusableError for one that is not an image, truncated, over `max_pixels` (checked before
    its pixels are decoded), or with a side under `min_side`.
    """
    try:
        image = read_image(content, max_pixels=settings.max_pixels)
    except UserError as error:
        name = printable(content) if isinstance(content, Path) else "standard input"
        raise UnusableError(str(error).removeprefix(f"{name}: ")) from None
    if min(image.size) < settings.min_side:
        raise UnusableError(
            f"{image.width}x{image.height} pixels, expected a shorter side of at least "
            f"{settings.min_side}"
        )
    return np.asarray(image)


def content_sha256(content: Path | bytes) -> str:
    """SHA-256 (hex) of a photograph. Raises OSError where its file cannot be read."""
    return (
        hashlib.sha256(content).hexdigest() if isinstance(content, bytes) else file_sha256(content)
    )
