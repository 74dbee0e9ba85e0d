"""Encoding images, and writing them to files whole or not at all."""

from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tvqrap.runtime.atomic import write_atomic


def encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    """The content of an image file; `options` are those of Pillow's encoder, None for its default.

    Encodes in memory, because Pillow does not notice a write that a full disk cuts short.
    """
    stream = BytesIO()
    image.save(stream, format_name, **{k: v for k, v in options.items() if v is not None})
    return stream.getvalue()


def save_png(path: Path, image: Image.Image | NDArray[np.uint8]) -> None:
    """Writes a PNG, whole or not at all, from an image or uint8 (H, W, 3)."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    write_atomic(path, encoded(picture, "PNG"))
