"""TIFFs of every kind, from a writer that is not Pillow's: read as they are meant, or refused."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from numpy.typing import NDArray

from tests.support.image_files import tiff_of_12_bits
from tvqrap.images.reading.open import read_image
from tvqrap.photo_io.reader import read_header, read_photo
from tvqrap.runtime.errors import UserError

SIZE = (18, 22)
SHALLOW = np.random.default_rng(0).integers(0, 256, (*SIZE, 4), dtype=np.uint8)
DEEP = np.random.default_rng(1).integers(0, 65536, (*SIZE, 4), dtype=np.uint16)
FLOAT = np.random.default_rng(2).random((*SIZE, 3), dtype=np.float32)
REDUCED = ("16 bits reduced to 8",)


def written(path: Path, pixels: NDArray[Any], **options: Any) -> Path:
    """A TIFF of (H, W) or (H, W, C); the planes of C one after the other if asked for."""
    if options.get("planarconfig") == "separate":
        pixels = np.ascontiguousarray(np.moveaxis(pixels, 2, 0))
    tifffile.imwrite(path, pixels, metadata=None, **options)
    return path


@pytest.mark.parametrize(
    ("pixels", "options"),
    [
        (SHALLOW[..., :3], {}),
        (SHALLOW[..., :3], {"bigtiff": True}),
        (SHALLOW[..., :3], {"planarconfig": "separate"}),
        (SHALLOW[..., :3], {"planarconfig": "separate", "compression": "zlib"}),
        (np.tile(SHALLOW[..., :3], (2, 2, 1)), {"planarconfig": "separate", "tile": (16, 16)}),
        (DEEP[..., :3], {}),
        (DEEP[..., :3], {"byteorder": ">"}),
        (DEEP[..., :3], {"bigtiff": True}),
        (DEEP[..., :3], {"compression": "zlib", "predictor": True}),
        (np.tile(DEEP[..., :3], (2, 2, 1)), {"tile": (16, 16)}),
    ],
)
def test_colours(pixels: NDArray[Any], options: dict[str, Any], tmp_path: Path) -> None:
    path = written(tmp_path / "a.tif", pixels, photometric="rgb", **options)
    read = read_photo(path)
    np.testing.assert_array_equal(read.photo.pixels, pixels)
    assert read.photo.alpha is None and read.notes == ()
    assert read_header(path).deep == (pixels.dtype == np.uint16)
    levels = np.rint(pixels / (257 if pixels.dtype == np.uint16 else 1))
    np.testing.assert_array_equal(np.asarray(read_image(path)), levels)


@pytest.mark.parametrize("options", [{}, {"bigtiff": True}, {"byteorder": ">"}])
def test_alpha_beside_16_bits(options: dict[str, Any], tmp_path: Path) -> None:
    alpha = {"photometric": "rgb", "extrasamples": ["unassalpha"]}
    photo = read_photo(written(tmp_path / "a.tif", DEEP, **alpha, **options)).photo
    np.testing.assert_array_equal(photo.alpha, DEEP[..., 3])
    seen = DEEP[..., 3] > 0
    np.testing.assert_array_equal(photo.pixels[seen], DEEP[..., :3][seen])


@pytest.mark.parametrize("byteorder", ["<", ">"])
@pytest.mark.parametrize(("dtype", "notes"), [(np.uint8, ()), (np.uint16, REDUCED)])
@pytest.mark.parametrize("channels", [1, 3])
def test_colours_that_are_multiplied_by_alpha(
    channels: int, dtype: Any, notes: tuple[str, ...], byteorder: str, tmp_path: Path
) -> None:
    """They are divided again; 16 bits are read as 8, with a note, or refused."""
    full = np.iinfo(dtype).max
    alpha = np.linspace(full // 4, full, SIZE[0] * SIZE[1]).astype(dtype).reshape(*SIZE, 1)
    straight = SHALLOW[..., :channels] / 255
    both = np.dstack([np.rint(straight * alpha).astype(dtype), alpha])
    path = written(
        tmp_path / "a.tif",
        both,
        photometric="rgb" if channels == 3 else "minisblack",
        planarconfig="contig",
        extrasamples=["assocalpha"],
        byteorder=byteorder,
    )
    if channels == 1 and dtype == np.uint16:
        with pytest.raises(UserError, match=r"a\.tif: not an image of a known format; of TIFFs"):
            read_photo(path)
        return
    read = read_photo(path)
    assert read.notes == notes and read.photo.gray == (channels == 1)
    assert read.photo.alpha is not None and read.photo.alpha.dtype == np.uint8
    np.testing.assert_allclose(read.photo.alpha, alpha[..., 0] / (full / 255), atol=1)
    np.testing.assert_allclose(
        read.photo.pixels / 255, straight.repeat(3 // channels, 2), atol=0.02
    )


@pytest.mark.parametrize("options", [{}, {"byteorder": ">"}, {"compression": "zlib"}])
def test_inks_of_16_bits(options: dict[str, Any], tmp_path: Path) -> None:
    read = read_photo(written(tmp_path / "a.tif", DEEP, photometric="separated", **options))
    assert read.notes == REDUCED
    paper, black = (255 - (DEEP[..., part] >> 8).astype(float) for part in (slice(3), slice(3, 4)))
    np.testing.assert_allclose(read.photo.pixels, paper * black / 255, atol=1)


def test_gray_of_12_bits(tmp_path: Path) -> None:
    """Its levels are spread over 16 bits: white is 65535."""
    levels = np.linspace(0, 4095, 60).astype(np.uint16).reshape(6, 10)
    read = read_photo(tiff_of_12_bits(tmp_path / "a.tif", levels))
    assert read.photo.gray
    np.testing.assert_allclose(read.photo.pixels[..., 0], levels * (65535 / 4095), atol=1)


PLANES = {"photometric": "rgb", "planarconfig": "separate"}
UNKNOWN = "not an image of a known format; of TIFFs, gray, RGB and CMYK of whole numbers up to 16"


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (FLOAT[..., 0], {}, "floating-point pixels"),
        (FLOAT, {"photometric": "rgb"}, UNKNOWN),
        (FLOAT, PLANES, UNKNOWN),
        (FLOAT[..., 0].astype(np.float16), {}, UNKNOWN),
        (FLOAT[..., 0].astype(np.float64), {}, UNKNOWN),
        (DEEP[..., :3], PLANES, "16-bit colours in separate planes"),
        (DEEP[..., :3], {**PLANES, "compression": "zlib"}, "16-bit colours in separate planes"),
        (DEEP, {**PLANES, "photometric": "separated"}, "16-bit colours in separate planes"),
        (SHALLOW, {**PLANES, "extrasamples": ["assocalpha"]}, "unknown raw mode"),
        (DEEP[..., :3].astype(np.uint32), {"photometric": "rgb"}, UNKNOWN),
        (DEEP[..., 0].astype(np.uint32) << 16, {}, "32-bit pixels beyond the range of 16 bits"),
        (DEEP[..., 0].view(np.int16), {}, "pixels beyond the range of 16 bits"),
        (SHALLOW[..., 0].view(np.int8), {}, "signed bytes"),
    ],
)
def test_what_has_no_certain_meaning_is_one_line(
    pixels: NDArray[Any], options: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    path = written(tmp_path / "a.tif", pixels, **options)
    for read in (read_photo, read_image):
        with pytest.raises(UserError, match=rf"^{path}: [^\n]*{reason}[^\n]*$"):
            read(path)
