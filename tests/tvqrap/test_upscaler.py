"""Upscaling images of any kind and size."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn import functional as F

from tvqrap.architecture import Architecture
from tvqrap.errors import UserError
from tvqrap.model_folder import save_model
from tvqrap.network import UpscalerNetwork
from tvqrap.upscaler import Upscaler

TINY = Architecture(width=0.125, codebook=16, texture=8, structure=32)


class Enlarging(torch.nn.Module):
    """In a network's place: enlarges smoothly, so that what tiles do can be seen."""

    architecture = TINY

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        assert all(side % 64 == 0 for side in lr.shape[2:])
        return F.interpolate(lr, scale_factor=4, mode="nearest")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("model")
    save_model(path, "upscaler", UpscalerNetwork(TINY), TINY, {})
    return path


def pixels(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (64, 64)])
def test_every_kind_of_image_gives_the_same_pixels(folder: Path, size: tuple[int, int]) -> None:
    upscaler = Upscaler.from_pretrained(folder)
    lr = pixels(*size)
    sr = upscaler(lr)
    assert sr.shape == (4 * size[0], 4 * size[1], 3) and sr.dtype == np.uint8
    np.testing.assert_array_equal(np.asarray(upscaler(Image.fromarray(lr))), sr)
    tensor = torch.from_numpy(lr).permute(2, 0, 1).float() / 127.5 - 1
    upscaled = upscaler(tensor)
    assert upscaled.shape == (3, 4 * size[0], 4 * size[1])
    assert upscaled.abs().max() <= 1
    np.testing.assert_array_equal(
        ((upscaled + 1) * 127.5).round().byte().permute(1, 2, 0).numpy(), sr
    )
    assert upscaler(tensor[None].repeat(2, 1, 1, 1)).shape == (2, 3, 4 * size[0], 4 * size[1])


def test_other_modes_become_rgb(folder: Path) -> None:
    upscaled = Upscaler.from_pretrained(folder)(Image.new("LA", (5, 4)))
    assert (upscaled.mode, upscaled.size) == ("RGB", (20, 16))


@pytest.mark.parametrize("size", [(100, 130), (33, 200), (65, 64)])
def test_tiles_leave_no_seam(size: tuple[int, int]) -> None:
    upscaler = Upscaler(Enlarging(), tile=64, overlap=16)  # type: ignore[arg-type]
    lr = pixels(*size)
    np.testing.assert_array_equal(upscaler(lr), lr.repeat(4, 0).repeat(4, 1))


def test_tiles_of_different_brightness_fade_into_each_other() -> None:
    class Counting(Enlarging):
        calls = 0

        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            return torch.full((1, 3, 4 * lr.shape[2], 4 * lr.shape[3]), self.calls / 2 - 1)

    upscaler = Upscaler(Counting(), tile=64, overlap=16)  # type: ignore[arg-type]
    row = upscaler(torch.zeros(3, 8, 112))[0, 0]
    assert row[0] == -0.5 and row[-1] == 0
    assert row.diff().abs().max() < 0.02


def test_wrong_use_is_named(folder: Path, tmp_path: Path) -> None:
    upscaler = Upscaler.from_pretrained(folder)
    for wrong in (
        pixels(4, 4)[..., :2],
        pixels(4, 4).astype(np.float32),
        np.zeros((0, 4, 3), "u1"),
    ):
        with pytest.raises(ValueError, match="expected uint8"):
            upscaler(wrong)
    with pytest.raises(ValueError, match="expected floating"):
        upscaler(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="no pixels"):
        upscaler(torch.zeros(3, 0, 4))
    with pytest.raises(ValueError, match="pad_multiple is 48, expected a multiple of 32"):
        Upscaler.from_pretrained(folder, pad_multiple=48)
    with pytest.raises(ValueError, match="overlap is 40"):
        Upscaler.from_pretrained(folder, tile=64, overlap=40)
    with pytest.raises(UserError, match="no model there"):
        Upscaler.from_pretrained(tmp_path)


def test_a_model_that_gives_nan_is_an_error(folder: Path) -> None:
    upscaler = Upscaler.from_pretrained(folder)
    for parameter in upscaler.network.decoder.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        upscaler(pixels(4, 4))
