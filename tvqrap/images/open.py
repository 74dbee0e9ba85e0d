"""Images in and out: any photograph to 8-bit RGB, and to and from tensors in [-1, 1]."""

import os
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from tvqrap.images.high_bit_depth import as_meant, check_readable
from tvqrap.images.orientation import orientation_of, upright
from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.errors import UserError

if TYPE_CHECKING:  # workers that cut and degrade photographs need no torch, which loads in seconds
    pass


MAX_PIXELS = 100_000_000
"""Pixels of the largest image that is read unless a caller allows more (0.3 GB as RGB)."""

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".webp", ".tif", ".tiff", ".bmp"})
"""Endings (in lower case) of the files that count as images in a folder."""


def find_images(folder: Path, lose: Callable[[str], None] | None = None) -> list[Path]:
    """The image files below a folder, sorted; what is hidden and links to folders are left out.

    `lose` is told in one line of each folder that cannot be searched; without it, the first is a
    `UserError`.
    """

    def unsearched(error: OSError) -> None:
        told = f"{error.filename}: cannot be searched ({error.strerror})"
        if lose is None:
            raise UserError(told)
        lose(told)

    found = []
    for parent, folders, names in os.walk(folder, onerror=unsearched):
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            Path(parent, name)
            for name in names
            if Path(name).suffix.lower() in SUFFIXES and not name.startswith(".")
        ]
    return sorted(found)


def to_rgb(image: Image.Image) -> Image.Image:
    """An image of any mode as 8-bit RGB.

    Transparency is laid over white; 16-bit gray is scaled by 1/257. Raises ValueError for what has
    no certain meaning as RGB (floating-point pixels, 32-bit integers beyond 16 bits).
    """
    if image.mode == "RGB" and not image.has_transparency_data:
        return image
    if image.mode.startswith("I"):
        return Image.fromarray(np.rint(deep_gray(image) / 257).astype(np.uint8)).convert("RGB")
    if image.mode == "F":
        raise ValueError("floating-point pixels")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")


def deep_gray(image: Image.Image) -> NDArray[np.uint16]:
    """Pixels (H, W) of a gray image of integers (Pillow's modes that begin with I).

    Raises ValueError for 32-bit integers beyond 16 bits.
    """
    values = np.asarray(image).astype(np.int64)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("32-bit pixels beyond the range of 16 bits")
    return values.astype(np.uint16)


@contextmanager
def reading(name: str, max_pixels: int = MAX_PIXELS) -> Iterator[None]:
    """Turns what Pillow raises while it reads the image `name` into a UserError of one line."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of large images, at a size of its own choosing, and of odd metadata.
            warnings.simplefilter("ignore")
            yield
    except FileNotFoundError:
        raise UserError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{name}: is a folder, expected an image") from None
    except UnidentifiedImageError:
        raise UserError(f"{name}: not an image that Pillow reads") from None
    except Image.DecompressionBombError:
        raise UserError(f"{name}: too large, at most {max_pixels} pixels are read") from None
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UserError(f"{name}: cannot be read as an image ({error})") from None
    except (ArithmeticError, AttributeError, LookupError, TypeError, zlib.error) as error:
        # Pillow raises these for the oddest files.
        reason = f"{type(error).__name__}: {error}"
        raise UserError(f"{name}: cannot be read as an image ({reason})") from None


def check_pixels(name: str, image: Image.Image, max_pixels: int) -> None:
    """Raises UserError for an image of more pixels, before they are decoded."""
    width, height = image.size
    if width * height > max_pixels:
        raise UserError(
            f"{name}: {width}x{height} is {width * height} pixels, at most {max_pixels} are read"
        )


def read_image(path: Path, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """Reads an image file as 8-bit RGB, upright (EXIF orientation applied), as by `to_rgb`.

    Raises UserError, in one line, for a file that is missing, no image, truncated, larger than
    `max_pixels` (checked before its pixels are decoded) or of pixels without a meaning as RGB.
    """
    with reading(str(path), max_pixels), Image.open(path) as image:
        check_pixels(str(path), image, max_pixels)
        check_readable(image)
        image.load()
        return to_rgb(upright(as_meant(image), orientation_of(image)))


def save_png(path: Path, image: Image.Image | NDArray[np.uint8]) -> None:
    """Writes a PNG, whole or not at all, from an image or uint8 (H, W, 3)."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    with atomic_path(path) as temporary:
        picture.save(temporary, format="PNG")
