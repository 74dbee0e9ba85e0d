"""Encoding and decoding of shard members: PNG images and NumPy arrays."""

import hashlib
import io
import json

import numpy as np
from PIL import Image

_MAX_IMAGE_PIXELS = 4096 * 4096


def encode_png(image: np.ndarray) -> bytes:
    """Encodes uint8 (H, W, 3) RGB as PNG at compression level 1."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"found {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def decode_png(payload: bytes) -> np.ndarray:
    """Decodes PNG to uint8 (H, W, 3). ValueError for all but 8-bit RGB up to 4096 x 4096."""
    try:
        with Image.open(io.BytesIO(payload), formats=["PNG"]) as image:
            if image.mode != "RGB" or image.width * image.height > _MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.mode}, {image.width}x{image.height} pixels")
            return np.array(image)
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise ValueError(f"not a PNG of a shard ({error})") from None


def encode_array(array: np.ndarray) -> bytes:
    """Encodes an array as `.npy`."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def decode_array(payload: bytes) -> np.ndarray:
    """Decodes `.npy`, without pickled objects. ValueError for anything else."""
    try:
        return np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)
    except Exception as error:  # malformed headers raise many kinds
        raise ValueError(f"not an array of a shard ({error})") from None


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
