"""Encoding and decoding of shard members: PNG images and NumPy arrays."""

import hashlib
import io
import json
import math
import re
import struct

import cv2
import numpy as np
from PIL import Image

from tvqrap.runtime.errors import first_line

_MAX_IMAGE_PIXELS = 4096 * 4096
_PNG_START = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"
_PNG_HEADER_BYTES = 33
_PNG_RGB = 2
"""Colour type of RGB without a palette or alpha."""
_ARRAY_START = b"\x93NUMPY"
_ARRAY_ENTRIES = (
    re.compile(rb"'descr': *'([<>|][biufc]\d+)'"),
    re.compile(rb"'fortran_order': *(True|False)"),
    re.compile(rb"'shape': *\(([\d, ]*)\)"),
)
"""Entries of the header of `.npy`, in any order."""


def encode_png(image: np.ndarray) -> bytes:
    """Encodes uint8 (H, W, 3) RGB as PNG at compression level 1."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"found {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def decode_png(payload: bytes) -> np.ndarray:
    """Decodes PNG to uint8 (H, W, 3). ValueError for all but 8-bit RGB up to 4096 x 4096.

    OpenCV takes less time than Pillow, and lets other threads run meanwhile
    (`tests/benchmarks/bench_decoding.py`).
    """
    if not payload.startswith(_PNG_START) or len(payload) < _PNG_HEADER_BYTES:
        raise ValueError("not a PNG of a shard (it does not begin as one)")
    width, height, depth, colour = struct.unpack_from(">IIBB", payload, len(_PNG_START))
    if (depth, colour) != (8, _PNG_RGB) or width * height > _MAX_IMAGE_PIXELS:
        raise ValueError(
            f"not a PNG of a shard ({depth} bits, colour type {colour}, {width}x{height} pixels)"
        )
    how = cv2.IMREAD_COLOR_RGB | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        image = cv2.imdecode(np.frombuffer(payload, np.uint8), how)
    except cv2.error as error:
        raise ValueError(f"not a PNG of a shard ({first_line(error)})") from None
    if image is None or image.shape != (height, width, 3):
        raise ValueError("not a PNG of a shard (damaged)")
    return np.asarray(image)


def encode_array(array: np.ndarray) -> bytes:
    """Encodes an array as `.npy`."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def decode_array(payload: bytes) -> np.ndarray:
    """Decodes `.npy` with numbers or booleans. ValueError for anything else.

    NumPy's reader parses the header by `ast.literal_eval`. Where two threads do so at once, that
    fails now and then (CPython issue 106905), and a sound sample would count as damaged.
    """
    try:
        if payload[:6] != _ARRAY_START:
            raise ValueError("it does not begin as one")
        form, begin = ("<H", 10) if payload[6] == 1 else ("<I", 12)
        end = begin + struct.unpack_from(form, payload, 8)[0]
        found = [entry.search(payload, begin, end) for entry in _ARRAY_ENTRIES]
        descr, fortran, sides = (match[1].decode() if match else "" for match in found)
        if not all(found):
            raise ValueError("its header does not describe one of numbers")
        shape = tuple(int(side) for side in sides.split(",") if side.strip())
        values = np.frombuffer(payload, np.dtype(descr), math.prod(shape), end)
        return values.reshape(shape, order="F" if fortran == "True" else "C").copy()
    except (ValueError, TypeError, IndexError, OverflowError, struct.error) as error:
        raise ValueError(f"not an array of a shard ({first_line(error)})") from None


def decode_codes(payload: bytes, codebook: int | None = None) -> np.ndarray:
    """Decodes codes to int64 (H, W). ValueError for other arrays, and for codes beyond `codebook`.

    `codebook` is the number of its entries; none where it is not known.
    """
    codes = decode_array(payload)
    if codes.dtype.kind not in "iu" or codes.ndim != 2:
        raise ValueError(f"found {codes.dtype} {codes.shape}, expected integers (H, W)")
    if codebook is not None and codes.size and not 0 <= codes.min() <= codes.max() < codebook:
        raise ValueError(
            f"found {codes.min()} to {codes.max()}, expected 0 to {codebook - 1} for a "
            f"codebook of {codebook}"
        )
    return codes.astype(np.int64)


def decode_structure(payload: bytes) -> np.ndarray:
    """Decodes a structure to float16 (C, H, W). ValueError for other arrays."""
    structure = decode_array(payload)
    if structure.dtype != np.float16 or structure.ndim != 3:
        found = f"{structure.dtype} {structure.shape}"
        raise ValueError(f"found {found}, expected float16 (C, H, W)")
    return structure


def digest_member(digest: "hashlib._Hash", name: str, payload: bytes) -> None:
    """Adds a member's decoded content. ValueError for a member that cannot be decoded."""
    if name.endswith(".json"):
        content = json.dumps(json.loads(payload), sort_keys=True).encode()
        header = f"{name} {len(content)}\n"
    else:
        array = decode_png(payload) if name.endswith(".png") else decode_array(payload)
        content = array.tobytes()
        header = f"{name} {array.dtype.str} {array.shape}\n"
    digest.update(header.encode())
    digest.update(content)
