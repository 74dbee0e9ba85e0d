"""File formats that upscaled photographs are written to, and their limits."""

from dataclasses import dataclass

from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class Format:
    """A file format that enlarged photographs are written to."""

    name: str
    """As Pillow knows it, in lower case."""
    suffixes: tuple[str, ...]
    largest_side: int
    """Pixels of the longest side that the format and its encoder can hold."""
    largest_bytes: float = float("inf")
    alpha: bool = True
    gray: bool = True
    deep: bool = False
    """Whether it holds 16 bits per channel; such formats are written row by row."""
    lossy: bool = False
    """Whether it loses detail, by a quality."""


FORMATS = {
    "png": Format("png", (".png",), 2**31 - 1, deep=True),
    # The format ends at 65535; libjpeg, which writes it, at 65500.
    "jpeg": Format("jpeg", (".jpg", ".jpeg"), 65500, alpha=False, lossy=True),
    "webp": Format("webp", (".webp",), 16383, gray=False, lossy=True),
    "tiff": Format("tiff", (".tif", ".tiff"), 2**31 - 1, largest_bytes=2**32 - 2**24, deep=True),
}


def check_fits_format(name: str, form: Format, size: tuple[int, int], deep: bool) -> None:
    """Raises UserError where a format cannot hold an image of `size` (width, height).

    `name` is the photograph's, for the message; `deep` is whether the image has 16 bits.
    """
    width, height = size
    if max(size) > form.largest_side:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds sides up to "
            f"{form.largest_side} (png holds more)"
        )
    if (8 if deep else 4) * width * height > form.largest_bytes:
        raise UserError(
            f"{name}: would be {width}x{height}, {form.name} holds files up to 4 GB (png is "
            "compressed)"
        )
