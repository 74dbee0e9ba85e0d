"""Upscaling images of any kind and size."""

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tests.support.networks import random_upscaler
from tests.support.tiles import Enlarging, pixels
from tests.support.upscaling import TINY
from tvqrap.architecture import Architecture
from tvqrap.images.padding import pad_to_multiple
from tvqrap.images.tensors import to_tensor
from tvqrap.networks.blocks import Norm
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.pretrained.packaged import TOKENIZER
from tvqrap.runtime.errors import UserError
from tvqrap.upscaling.tile_norms import shared_norms
from tvqrap.upscaling.upscaler import Upscaler


class Normalising(Enlarging):
    """Normalises, as the network does, before it enlarges."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = Norm(4)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        normed = self.norm(torch.cat((lr, lr[:, :1]), 1))[:, :3]
        return super().forward(normed / 4)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    network = random_upscaler(TINY)
    path = tmp_path_factory.mktemp("model")
    save_model(path, "upscaler", network, TINY, {})
    return path


def scene(height: int, width: int) -> np.ndarray:
    """Dark on one side and bright on the other, with some detail."""
    y, x = np.mgrid[:height, :width]
    wave = 20 * np.sin(x / 3) * np.cos(y / 5)
    gray = 20 + 200 * x / width + wave
    return np.stack([gray, gray * 0.9, gray * 0.7], axis=-1).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (64, 64), (20, 100)])
def test_every_kind_of_image_gives_the_same_pixels(folder: Path, size: tuple[int, int]) -> None:
    upscaler = Upscaler.from_pretrained(folder, tile=64)
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


@pytest.mark.parametrize("size", [(60, 128), (1, 100), (130, 4)])
def test_what_fits_one_tile_is_the_padded_networks_own_answer(
    folder: Path, size: tuple[int, int]
) -> None:
    upscaler = Upscaler.from_pretrained(folder)
    lr = to_tensor(pixels(*size))
    with torch.inference_mode():
        padded = pad_to_multiple(lr[None], 64).contiguous(memory_format=torch.channels_last)
        expected = upscaler.network(padded)[0, :, : 4 * size[0], : 4 * size[1]].clamp(-1, 1)
    assert torch.equal(upscaler(lr), expected)


@pytest.mark.parametrize(
    ("mode", "same"), [("L", "L"), ("LA", "LA"), ("RGBA", "RGBA"), ("P", "RGB"), ("CMYK", "RGB")]
)
def test_other_modes_keep_what_they_hold(folder: Path, mode: str, same: str) -> None:
    image = Image.new(mode, (5, 4))  # with alpha: all transparent
    upscaled = Upscaler.from_pretrained(folder)(image)
    assert (upscaled.mode, upscaled.size) == (same, (20, 16))


@pytest.mark.parametrize(("mode", "space"), [("RGB", b"RGB "), ("L", b"GRAY"), ("CMYK", b"CMYK")])
def test_an_image_keeps_the_profile_of_its_colours(mode: str, space: bytes) -> None:
    image = Image.new(mode, (5, 4))
    image.info["icc_profile"] = bytes(16) + space + bytes(108)
    upscaled = Upscaler(Enlarging())(image)  # type: ignore[arg-type]
    expected = {} if mode == "CMYK" else {"icc_profile": image.info["icc_profile"]}
    assert upscaled.info == expected


def test_gray_and_transparent_arrays_are_as_images() -> None:
    upscaler = Upscaler(Enlarging(), tile=64)  # type: ignore[arg-type]
    lr = np.random.default_rng(0).integers(0, 256, (2, 9, 7, 4), dtype=np.uint8)
    upscaled = upscaler(lr)
    assert upscaled.shape == (2, 36, 28, 4)
    for one, large in zip(lr, upscaled, strict=True):
        np.testing.assert_array_equal(large, np.asarray(upscaler(Image.fromarray(one))))
    lr[..., 3] = 255
    np.testing.assert_array_equal(upscaler(lr)[..., 3], np.full((2, 36, 28), 255))
    gray = lr[0, ..., 0]
    np.testing.assert_array_equal(upscaler(gray), np.asarray(upscaler(Image.fromarray(gray))))


@pytest.mark.parametrize("size", [(100, 130), (33, 200), (65, 64), (1, 300)])
@pytest.mark.parametrize("overlap", [0, 16])
def test_tiles_meet_and_cover_all(size: tuple[int, int], overlap: int) -> None:
    upscaler = Upscaler(Enlarging(), tile=64, overlap=overlap)  # type: ignore[arg-type]
    lr = pixels(*size)
    np.testing.assert_array_equal(upscaler(lr), lr.repeat(4, 0).repeat(4, 1))


def test_tiles_are_normalised_alike() -> None:
    network = Normalising()
    lr = scene(128, 384)
    whole = Upscaler(network, tile=512)(lr).astype(int)  # type: ignore[arg-type]
    tiled = Upscaler(network, tile=128)(lr).astype(int)  # type: ignore[arg-type]
    # On its own each tile would be as bright as the others: 60 levels and more away.
    assert np.abs(tiled - whole).max() <= 2
    assert isinstance(network.norm, Norm)  # as it was


def test_a_network_in_tiles_is_close_to_the_whole(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network = Upscaler.from_pretrained(folder).network
    # The codes of random weights hang on the last bits.
    nn.init.zeros_(network.codebook.embedding.weight)
    lr = scene(64, 320)
    whole = Upscaler(network, tile=256)(lr).astype(float)

    def distance(tiled: Upscaler) -> float:
        return float(np.abs(tiled(lr) - whole).mean() / whole.std())

    tiled = Upscaler(network, tile=128)
    sampled = distance(tiled)
    with torch.inference_mode():
        exact = shared_norms(network, to_tensor(lr)[None])
    monkeypatch.setattr(tiled, "_network_for", lambda *_: exact)
    assert distance(tiled) < 0.05
    with torch.inference_mode():
        other = shared_norms(network, to_tensor(lr[:, :64])[None])
    monkeypatch.setattr(tiled, "_network_for", lambda *_: other)
    assert sampled < distance(tiled)


def test_threads_that_share_it_get_what_each_would_alone(folder: Path) -> None:
    """Normalisations of one image's tiles are not for the images beside it."""
    upscaler = Upscaler.from_pretrained(folder, tile=64)
    images = [scene(96, 96), scene(128, 80) // 2, scene(40, 40), scene(70, 150)]
    alone = [upscaler(image) for image in images]
    with ThreadPoolExecutor(4) as pool:
        for _ in range(3):
            for found, expected in zip(pool.map(upscaler, images), alone, strict=True):
                np.testing.assert_array_equal(found, expected)


def test_tiles_of_different_brightness_fade_into_each_other() -> None:
    class Counting(Enlarging):
        calls = 0

        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            self.calls += 1
            level = 0 if lr.shape[0] > 1 or self.calls % 2 else -0.5
            return torch.full((len(lr), 3, 4 * lr.shape[2], 4 * lr.shape[3]), level)

    upscaler = Upscaler(Counting(), tile=128, overlap=32)  # type: ignore[arg-type]
    row = upscaler(torch.zeros(3, 70, 192))[0, 0]
    assert {row[0].item(), row[-1].item()} == {-0.5, 0}
    assert row.diff().abs().max() < 0.02


def test_bands_come_from_top_to_bottom_and_work_is_counted() -> None:
    upscaler = Upscaler(Enlarging(), tile=64)  # type: ignore[arg-type]
    lr = pixels(200, 100)
    seen: list[int] = []
    bands = list(upscaler.rows(lr, seen.append))
    assert len(bands) > 3
    np.testing.assert_array_equal(np.concatenate(bands), lr.repeat(4, 0).repeat(4, 1))
    assert len(seen) > 3 and sum(seen) == 200 * 100


def test_batches_go_through_the_network_together() -> None:
    class Counting(Enlarging):
        def __init__(self) -> None:
            super().__init__()
            self.sizes: list[int] = []

        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            self.sizes.append(len(lr))
            return super().forward(lr)

    network = Counting()
    upscaler = Upscaler(network, tile=128)  # type: ignore[arg-type]
    rng = np.random.default_rng(0)
    batch = rng.integers(0, 65536, (7, 20, 64, 3), dtype=np.uint16)
    upscaled = upscaler(batch)
    assert network.sizes == [4, 3]  # of 64x64 each: as much as a tile
    np.testing.assert_array_equal(upscaled, batch.repeat(4, 1).repeat(4, 2))
    network.sizes.clear()
    tensor = upscaler(torch.zeros(5, 3, 64, 64))
    assert network.sizes == [4, 1] and tensor.shape == (5, 3, 256, 256)
    large = rng.integers(0, 256, (2, 200, 150, 3), dtype=np.uint8)  # in tiles, one by one
    np.testing.assert_array_equal(upscaler(large), large.repeat(4, 1).repeat(4, 2))


def test_sixteen_bits_stay_sixteen_bits() -> None:
    upscaler = Upscaler(Enlarging(), tile=64)  # type: ignore[arg-type]
    for size in ((5, 9), (100, 130)):
        deep = np.random.default_rng(0).integers(0, 65536, (*size, 3), dtype=np.uint16)
        np.testing.assert_array_equal(upscaler(deep), deep.repeat(4, 0).repeat(4, 1))
    gray = Image.fromarray(deep[..., 0])
    large = upscaler(gray)
    assert large.mode == "I;16"
    np.testing.assert_array_equal(np.asarray(large), deep[..., 0].repeat(4, 0).repeat(4, 1))
    gray.info["transparency"] = int(deep[0, 0, 0])
    assert upscaler(gray).mode == "LA"  # Pillow has no more bits with transparency


def test_colours_are_matched(folder: Path) -> None:
    class Reddish(Enlarging):
        def forward(self, lr: torch.Tensor) -> torch.Tensor:
            return super().forward(lr) * 0.5 + torch.tensor([0.2, 0, 0])[:, None, None]

    lr = np.full((40, 150, 3), (100, 150, 90), np.uint8)
    kept = Upscaler(Reddish(), tile=64)(lr)  # type: ignore[arg-type]
    matched = Upscaler(Reddish(), tile=64, colour="match")(lr)  # type: ignore[arg-type]
    assert np.abs(kept.astype(int) - lr[0, 0]).max() > 20
    np.testing.assert_array_equal(matched, lr.repeat(4, 0).repeat(4, 1))


def test_bfloat16_is_close(folder: Path) -> None:
    lr = scene(20, 100)
    exact = Upscaler.from_pretrained(folder, tile=64)(lr).astype(float)
    rough = Upscaler.from_pretrained(folder, tile=64, precision="bfloat16")(lr)
    # In places another code is chosen, at random with random weights.
    assert np.median(np.abs(rough - exact)) < 0.2 * exact.std()


def test_a_band_is_no_higher_than_a_tile() -> None:
    upscaler = Upscaler(Enlarging(), tile=64)  # type: ignore[arg-type]
    assert max(len(band) for band in upscaler.rows(pixels(1000, 8))) <= 4 * 64


@pytest.mark.slow
def test_memory_for_a_large_photograph(tmp_path: Path) -> None:
    network = UpscalerNetwork(Architecture(width=0.0625, codebook=16, texture=4, structure=8))
    save_model(tmp_path, "upscaler", network, network.architecture, {})
    peaks = []
    for side in (64, 2048):
        photo, large = tmp_path / f"{side}.png", tmp_path / f"{side}-large.png"
        Image.fromarray(scene(side, side)).save(photo)
        command = ["upscale", str(photo), "-o", str(large), "--model", str(tmp_path)]
        code = "import sys; from tvqrap.cli.main import app; app(sys.argv[1:])"
        process = subprocess.Popen([sys.executable, "-c", code, *command])
        _, status, used = os.wait4(process.pid, 0)
        assert status == 0
        peaks.append(used.ru_maxrss * 1024)
    assert peaks[1] - peaks[0] < 1.5e9


def test_wrong_use_is_named(folder: Path, tmp_path: Path) -> None:
    upscaler = Upscaler.from_pretrained(folder)
    for wrong in (
        pixels(4, 4)[..., :2],
        pixels(4, 4).astype(np.float32),
        pixels(4, 4)[None, None],
    ):
        with pytest.raises(ValueError, match="expected uint8"):
            upscaler(wrong)
    with pytest.raises(ValueError, match="no pixels"):
        upscaler(np.zeros((0, 4, 3), "u1"))
    for other in ("a.png", tmp_path, [pixels(4, 4)]):
        with pytest.raises(ValueError, match="expected a PIL image, a numpy array or a tensor"):
            upscaler(other)
    with pytest.raises(ValueError, match="expected floating"):
        upscaler(torch.zeros(4, 4))
    with pytest.raises(ValueError, match="no pixels"):
        upscaler(torch.zeros(3, 0, 4))
    for wrong, message in (
        ({"pad_multiple": 48}, "pad_multiple is 48, expected a multiple of 32"),
        ({"tile": 64, "overlap": 40}, "overlap is 40"),
        ({"tile": 32}, "tile is 32, expected a multiple of 32 from 64"),
        ({"precision": "float8"}, "precision is 'float8', expected float32 or bfloat16"),
        ({"colour": "red"}, "colour is 'red', expected keep or match"),
    ):
        with pytest.raises(ValueError, match=message):
            Upscaler.from_pretrained(folder, **wrong)
    with pytest.raises(UserError, match="no model there"):
        Upscaler.from_pretrained(tmp_path)
    with pytest.raises(UserError, match="holds a tokenizer, expected an upscaler"):
        Upscaler.from_pretrained(TOKENIZER)


def test_a_model_that_gives_nan_is_an_error(folder: Path) -> None:
    upscaler = Upscaler.from_pretrained(folder)
    for parameter in upscaler.network.decoder.parameters():
        parameter.data.fill_(torch.nan)
    with pytest.raises(ValueError, match="not finite"):
        upscaler(pixels(4, 4))
