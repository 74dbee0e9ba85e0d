"""Small sound image files of every format and mode that the project opens."""

import io
import struct
import zlib
from collections.abc import Callable
from importlib import import_module
from typing import Any

import cv2
import numpy as np
import tifffile
from PIL import Image, ImageCms, PngImagePlugin

from tests.support.image_files import png
from tests.support.pairs import texture

WIDTH, HEIGHT = 22, 18

_MODES = {
    "jpg": ("L", "RGB", "CMYK"),
    "png": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "webp": ("RGB", "RGBA"),
    "tif": ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "F", "I", "I;16"),
    "gif": ("1", "L", "P", "RGBA"),
    "bmp": ("1", "L", "P", "RGB", "RGBA"),
    "avif": ("L", "RGB", "RGBA"),
    "jp2": ("L", "LA", "RGB", "RGBA", "I;16"),
    "ppm": ("1", "L", "RGB", "F", "I;16"),
    "tga": ("L", "LA", "P", "RGB", "RGBA"),
}
_EXTRAS = {"heic": ("pillow_heif", "HEIF"), "jxl": ("pillow_jxl", "JXL")}
"""Module that registers a format of an extra with Pillow, and Pillow's name of it."""


ENDINGS = (*_MODES, "j2k", *_EXTRAS)
"""Endings of the samples' names."""


def image_samples() -> dict[str, bytes]:
    """Content of the files by name; formats of extras that are not installed are left out."""
    found = {
        f"{mode.replace(';', '')}.{ending}": _saved(ending, mode)
        for ending, modes in _MODES.items()
        for mode in modes
    }
    found |= {name: make() for name, make in _SPECIAL.items()}
    for ending, (module, form) in _EXTRAS.items():
        try:
            import_module("pillow_heif.HeifImagePlugin" if ending == "heic" else module)
        except ImportError:
            continue
        for mode in ("RGB", "RGBA"):
            found[f"{mode}.{ending}"] = _saved(ending, mode, format=form)
    return found


def _picture(mode: str) -> Image.Image:
    pixels = texture(3, HEIGHT, WIDTH)
    if mode in ("F", "I", "I;16"):
        gray = pixels[..., 0].astype(np.float32)
        kinds: dict[str, Any] = {"F": np.float32, "I": np.int32, "I;16": np.uint16}
        return Image.fromarray((gray * (1 if mode == "F" else 257)).astype(kinds[mode]))
    image = Image.fromarray(pixels)
    if mode in ("LA", "RGBA"):
        image.putalpha(Image.fromarray(pixels[..., 1]))
    if mode == "P":
        return image.quantize(16)
    return image.convert(mode)


def _saved(ending: str, mode: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    form = {"jpg": "JPEG", "tif": "TIFF", "jp2": "JPEG2000"}.get(ending, ending.upper())
    _picture(mode).save(stream, **{"format": form, **options})
    return stream.getvalue()


def _with_metadata(ending: str, **options: Any) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "a description"
    exif[0x8769] = {0xA002: WIDTH, 0x9286: b"ASCII\0\0\0a comment", 0x829A: 0.01}
    exif[0x8825] = {1: "N", 2: (52.0, 31.0, 12.0)}
    written = Image.Exif()
    written.load(exif.tobytes())  # the TIFF writer reads folders from bytes alone
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    more = {"exif": written, "icc_profile": profile, "xmp": xmp, "dpi": (72, 72)}
    return _saved(ending, "RGB", **more, **options)


def _png_texts() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("Title", "a title")
    info.add_itxt("Ort", "Köln", zip=True)
    info.add_text("Comment", "squeezed" * 9, zip=True)
    info.add(b"cHRM", struct.pack(">8I", *(31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)))
    info.add(b"gAMA", struct.pack(">I", 45455))
    info.add(b"cICP", bytes([9, 16, 0, 1]))
    return _with_metadata("png", pnginfo=info)


def _deep(ending: str, channels: int) -> bytes:
    """16 bits in each of several channels, which Pillow does not write."""
    pixels = texture(4, HEIGHT, WIDTH).astype(np.uint16) * 257
    if channels == 4:
        pixels = np.dstack([pixels, pixels[..., 0]])
    return bytes(cv2.imencode(f".{ending}", pixels)[1])


def _tiff(pixels: np.ndarray, **options: Any) -> bytes:
    stream = io.BytesIO()
    tifffile.imwrite(stream, pixels, **options)
    return stream.getvalue()


def _planes(pixels: np.ndarray) -> bytes:
    planes = np.moveaxis(pixels, 2, 0).copy()
    return _tiff(planes, photometric="rgb", planarconfig="separate")


def _frames(ending: str) -> bytes:
    return _saved(ending, "P", save_all=True, append_images=[_picture("P").rotate(180)])


def _interlaced() -> bytes:
    """Adam7 of a 1x1 image, whose only pass is the first."""
    header = struct.pack(">IIBBBBB", 1, 1, 8, 2, 0, 0, 1)
    return png((b"IHDR", header), (b"IDAT", zlib.compress(b"\0\x10\x20\x30")))


_SPECIAL: dict[str, Callable[[], bytes]] = {
    "metadata.jpg": lambda: _with_metadata("jpg", comment=b"a comment"),
    "progressive.jpg": lambda: _saved("jpg", "RGB", progressive=True, subsampling=2),
    "metadata.png": lambda: _with_metadata("png"),
    "texts.png": _png_texts,
    "key.png": lambda: _saved("png", "RGB", transparency=(1, 2, 3)),
    "deep.png": lambda: _deep("png", 3),
    "deep_alpha.png": lambda: _deep("png", 4),
    "interlaced.png": _interlaced,
    "frames.png": lambda: _frames("png"),
    "metadata.webp": lambda: _with_metadata("webp", lossless=True),
    "frames.webp": lambda: _frames("webp"),
    "metadata.tif": lambda: _with_metadata("tif"),
    "lzw.tif": lambda: _saved("tif", "RGB", compression="tiff_lzw"),
    "deflate.tif": lambda: _saved("tif", "RGB", compression="tiff_adobe_deflate"),
    "jpeg.tif": lambda: _saved("tif", "RGB", compression="jpeg"),
    "fax.tif": lambda: _saved("tif", "1", compression="group4"),
    "packed.tif": lambda: _saved("tif", "L", compression="packbits"),
    "big.tif": lambda: _saved("tif", "RGB", big_tiff=True),
    "frames.tif": lambda: _frames("tif"),
    "deep.tif": lambda: _deep("tif", 3),
    "deep_planes.tif": lambda: _planes(texture(4, HEIGHT, WIDTH).astype(np.uint16) * 257),
    "planes.tif": lambda: _planes(texture(5, HEIGHT, WIDTH)),
    "tiles.tif": lambda: _tiff(texture(6, 48, 48), tile=(16, 16), photometric="rgb"),
    "float_rgb.tif": lambda: _tiff(texture(7, HEIGHT, WIDTH).astype(np.float32) / 255),
    "deep_cmyk.tif": lambda: _tiff(
        np.full((HEIGHT, WIDTH, 4), 4321, np.uint16), photometric="separated"
    ),
    "frames.gif": lambda: _frames("gif"),
    "packed.tga": lambda: _saved("tga", "RGB", compression="tga_rle"),
    "metadata.avif": lambda: _with_metadata("avif"),
    "frames.avif": lambda: _frames("avif"),
    "stream.j2k": lambda: _saved("jp2", "RGB", no_jp2=True),
    "ascii.ppm": lambda: b"P3\n2 2\n255\n" + b"1 2 3 " * 4,
    "deep.ppm": lambda: _deep("ppm", 3),
}
