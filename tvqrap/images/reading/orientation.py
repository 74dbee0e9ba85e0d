"""The orientation of a photograph by its EXIF."""

from PIL import Image

_ORIENTATION = 0x0112
_APPLIED_BY_READERS = ("HEIF", "JXL", "TIFF")
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""The transposition that makes an image of each orientation upright."""


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation (1 to 8) of an opened image; 1 where none can be read.

    A PNG that is not loaded is not decoded for it. It is 1 for formats whose readers apply the
    orientation, to the size before an image is loaded and to the pixels: HEIF, JPEG XL and TIFF.
    """
    if image.format in _APPLIED_BY_READERS:
        return 1
    try:
        # The PNG reader's own getexif decodes all pixels where no EXIF lies in front of them.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # Pillow fails in any way at all on broken EXIF
        return 1
    return orientation if orientation in _TURNS else 1


def swaps_sides(orientation: int) -> bool:
    """Whether making an image of that EXIF orientation upright swaps its width and height."""
    return orientation >= 5


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image made upright, by its EXIF orientation (1 to 8)."""
    # Not Pillow's exif_transpose: that writes the whole EXIF anew, and fails where a tag does.
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image
