"""The orientation of a photograph by its EXIF, else its XMP."""

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
    """The orientation (1 to 8) that is to be applied to an opened image; 1 where none can be read.

    An image that is not loaded is not decoded for it. It is 1 for formats whose readers apply the
    orientation, to the size before an image is loaded and to the pixels: HEIF, JPEG XL and TIFF.
    """
    return 1 if image.format in _APPLIED_BY_READERS else _stated(image)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """(width, height) of the upright picture of an opened image, which need not be loaded."""
    width, height = image.size
    orientation = orientation_of(image)
    tags = getattr(image, "tag_v2", None)
    if tags is not None and _ORIENTATION not in tags:
        # Pillow's TIFF reader turns pixels by XMP too, but the size by the tag alone.
        orientation = _stated(image)
    return (height, width) if orientation >= 5 else (width, height)


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """The image made upright, by its EXIF orientation (1 to 8)."""
    # Not Pillow's exif_transpose: that writes the whole EXIF anew, and fails where a tag does.
    return image.transpose(_TURNS[orientation]) if orientation in _TURNS else image


def _stated(image: Image.Image) -> int:
    try:
        # The PNG reader's own getexif decodes all pixels where no EXIF lies in front of them.
        orientation = Image.Image.getexif(image).get(_ORIENTATION, 1)
    except Exception:  # Pillow fails in any way at all on broken EXIF
        return 1
    return orientation if orientation in _TURNS else 1
