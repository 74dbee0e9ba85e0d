"""Photographs as they are written: what a format cannot hold is named."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image, ImageCms

from tvqrap.photo_io.formats import FORMATS
from tvqrap.photo_io.metadata import Metadata
from tvqrap.photo_io.reader import Animation
from tvqrap.photo_io.writer import write_frames, write_photo


def gray_profile() -> bytes:
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    profile[16:20] = b"GRAY"
    return bytes(profile)


@pytest.mark.parametrize("form", [*FORMATS])
@pytest.mark.parametrize("channels", [1, 2])
@pytest.mark.parametrize("frames", [False, True])
def test_a_gray_profile_is_kept_or_named(form: str, channels: int, frames: bool) -> None:
    if frames and FORMATS[form].several != "frames":
        return
    shape = (8, 8) if channels == 1 else (8, 8, 2)
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)
    file, metadata = BytesIO(), Metadata(icc_profile=gray_profile())
    if frames:
        both = iter([iter([pixels]), iter([255 - pixels])])
        times = Animation((50.0, 50.0), 0)
        left_out = write_frames(file, FORMATS[form], both, (8, 8), metadata, times)
    else:
        left_out = write_photo(file, FORMATS[form], iter([pixels]), (8, 8), metadata)
    lost = form == "webp" or (form == "avif" and channels == 2)
    assert left_out == (["colour profile"] if lost else [])
    with Image.open(file) as image:
        assert image.info.get("icc_profile") == (None if lost else metadata.icc_profile)


def test_nothing_is_named_without_a_profile() -> None:
    pixels = np.zeros((8, 8), np.uint8)
    assert write_photo(BytesIO(), FORMATS["webp"], iter([pixels]), (8, 8), Metadata()) == []
