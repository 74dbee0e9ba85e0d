"""Methods: baselines, our models, files of other upscalers; tiling as recorded."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from tests.support.networks import saved_upscaler
from tvqrap.architecture import Architecture
from tvqrap.comparison.methods import Method, baseline, model_folder
from tvqrap.comparison.spandrel import other_upscaler
from tvqrap.runtime.errors import UserError

TINY = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)


def lr_image(height: int, width: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((width, height), Image.Resampling.BICUBIC))


def test_baselines_are_pillows() -> None:
    lr = lr_image(6, 8)
    expected = Image.fromarray(lr).resize((32, 24), Image.Resampling.LANCZOS)
    assert np.array_equal(baseline("lanczos").made(lr), np.asarray(expected))
    assert baseline("bicubic").protocol(0) == {"kind": "Pillow's bicubic", "tiling": None}


def test_our_models_record_padding_and_tiling(tmp_path: Path) -> None:
    method = model_folder(saved_upscaler(tmp_path, TINY), tile=128)
    for size, tiled in (
        *(((64, 64), False), ((128, 128), False), ((64, 256), False)),
        *(((65, 256), True), ((300, 8), True), ((129, 128), True)),
    ):
        assert method.tiles(*size) == tiled, size
    said = method.protocol(3)
    assert said["padding"]["multiple"] == 64
    assert said["tiling"] == {"tile": 128, "overlap": 16, "images": 3}
    assert len(said["fingerprint"]) == 64
    made = method.made(lr_image(10, 12))
    assert isinstance(made, np.ndarray) and made.shape == (40, 48, 3)


def test_an_exception_becomes_a_reason() -> None:
    def fails(lr: np.ndarray) -> np.ndarray:
        raise RuntimeError("out of order\nmore")

    assert Method(fails, {}).made(lr_image(4, 4)) == "RuntimeError: out of order"
    small = Method(lambda lr: lr, {}).made(lr_image(4, 4))
    assert small == "made (4, 4, 3), expected (16, 16, 3)"


class TestOtherUpscalers:
    @pytest.fixture
    def state(self) -> dict[str, torch.Tensor]:
        from spandrel.architectures.ESRGAN import ESRGAN

        torch.manual_seed(0)
        state: dict[str, torch.Tensor] = ESRGAN(
            num_filters=8, num_blocks=1, scale=4, in_nc=3
        ).state_dict()
        return state

    def test_pth_and_safetensors_are_the_same(
        self, tmp_path: Path, state: dict[str, torch.Tensor]
    ) -> None:
        torch.save({"params_ema": state}, tmp_path / "esrgan.pth")
        save_file(state, tmp_path / "esrgan.safetensors")
        lr = lr_image(9, 11)
        made = [
            other_upscaler(tmp_path / name).made(lr)
            for name in ("esrgan.pth", "esrgan.safetensors")
        ]
        assert isinstance(made[0], np.ndarray) and made[0].shape == (36, 44, 3)
        assert np.array_equal(made[0], made[1])
        said = other_upscaler(tmp_path / "esrgan.pth").protocol(0)
        assert said["kind"] == "spandrel ESRGAN" and said["tiling"] is None

    def test_tiles_meet_where_the_network_sees_enough(
        self, tmp_path: Path, state: dict[str, torch.Tensor]
    ) -> None:
        save_file(state, tmp_path / "esrgan.safetensors")
        lr = lr_image(90, 130)
        whole = other_upscaler(tmp_path / "esrgan.safetensors", tile=256).made(lr)
        tiled = other_upscaler(tmp_path / "esrgan.safetensors", tile=96)
        assert tiled.tiles(90, 130)
        made = tiled.made(lr)
        assert isinstance(made, np.ndarray) and isinstance(whole, np.ndarray)
        # Each place of a small ESRGAN sees fewer pixels than tiles overlap by.
        assert np.abs(made.astype(int) - whole).max() <= 1

    def test_nan_is_a_reason(self, tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
        state["model.0.bias"][0] = torch.nan
        save_file(state, tmp_path / "esrgan.safetensors")
        made = other_upscaler(tmp_path / "esrgan.safetensors").made(lr_image(8, 8))
        assert made == "the model gives values that are not finite"

    def test_files_without_a_4x_upscaler_are_refused(self, tmp_path: Path) -> None:
        from spandrel.architectures.ESRGAN import ESRGAN

        twice = tmp_path / "x2.safetensors"
        save_file(ESRGAN(num_filters=8, num_blocks=1, scale=2).state_dict(), twice)
        other = tmp_path / "other.safetensors"
        save_file({"a": torch.zeros(3)}, other)
        (tmp_path / "broken.pth").write_bytes(b"no weights")
        for name, message in (
            ("x2.safetensors", "scale 2, expected 4"),
            ("other.safetensors", "no upscaler that spandrel knows"),
            ("broken.pth", "not readable as .pth or safetensors"),
        ):
            with pytest.raises(UserError, match=message):
                other_upscaler(tmp_path / name)

    def test_damaged_files_are_one_line(
        self, tmp_path: Path, state: dict[str, torch.Tensor]
    ) -> None:
        path = tmp_path / "esrgan.pth"
        torch.save(state, path, _use_new_zipfile_serialization=False)
        whole = bytearray(path.read_bytes())
        rng = np.random.default_rng(0)
        refused = 0
        for _ in range(100):
            damaged = whole.copy()
            for place in rng.integers(0, 2000, 3):
                damaged[place] = rng.integers(256)
            path.write_bytes(damaged)
            try:
                other_upscaler(path)
            except UserError as error:
                assert str(error).startswith(f"{path}: ") and len(str(error).splitlines()) == 1
                refused += 1
        assert refused > 20

    def test_a_file_that_would_run_code_is_refused(self, tmp_path: Path) -> None:
        class Trap:
            def __reduce__(self) -> tuple[object, tuple[Path]]:
                return Path.touch, (tmp_path / "sprung",)

        torch.save({"params": Trap()}, tmp_path / "trap.pth")
        with pytest.raises(UserError, match="asks for the Python object"):
            other_upscaler(tmp_path / "trap.pth")
        assert not (tmp_path / "sprung").exists()
