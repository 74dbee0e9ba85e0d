"""`tvqrap-cli upscale` a second time."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support import commands
from tests.support.upscaling import TINY, image, opened, repeated
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.upscaling.upscaler import Upscaler


@pytest.mark.usefixtures("quick")
class TestReruns:
    """A second call does what is still to be done, and says what it leaves."""

    @pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
    def test_other_settings_are_not_taken_for_done(self, run: Any, ending: str) -> None:
        photo, output = image("a.png"), f"out.{ending}"
        assert run(photo, "-o", output).exit_code == 0
        assert "0 upscaled, 1 there already" in run(photo, "-o", output).output
        for option, value, said in (
            ("--scale", "2", "size 20x12 (now 10x6)"),
            ("--colour", "match", "colour keep (now match)"),
            ("--tile", "64", "tile auto (now 64)"),
        ):
            result = run(photo, "-o", output, option, value)
            assert result.exit_code == 1
            assert f"{output}: made with {said}; overwrite replaces it" in result.output
            assert opened(output).size == (20, 12)
        assert run(photo, "-o", output, "--scale", "2", "--overwrite").exit_code == 0
        assert opened(output).size == (10, 6)

    def test_another_model_is_not_taken_for_done(self, run: Any, tmp_path: Path) -> None:
        photo = image("a.png")
        assert run(photo, "-o", "b.png").exit_code == 0
        torch.manual_seed(1)
        save_model(tmp_path / "other", "upscaler", UpscalerNetwork(TINY), TINY, {})
        result = commands.run("upscale", photo, "-o", "b.png", "--model", tmp_path / "other")
        assert result.exit_code == 1 and "b.png: made with model " in result.output

    def test_another_photograph_of_that_name_is_not_taken_for_done(self, run: Any) -> None:
        image("r1/x.png", 5)
        image("r2/x.png", 6)
        assert run("r1", "-o", "out").exit_code == 0
        result = run("r2", "-o", "out")
        assert result.exit_code == 1
        assert "out/x.png: made of another photograph" in result.output
        assert opened("out/x.png").size == (20, 12)

    def test_a_photograph_that_differs_in_its_middle_is_another(self, run: Any) -> None:
        for name, middle in (("r1/x.bmp", 0), ("r2/x.bmp", 1)):
            Path(name).parent.mkdir()
            pixels = np.zeros((200, 300, 3), np.uint8)
            pixels[100, 150] = middle
            Image.fromarray(pixels).save(name)
        assert run("r1", "-o", "out").exit_code == 0
        result = run("r2", "-o", "out")
        assert result.exit_code == 1
        assert "out/x.png: made of another photograph" in result.output

    def test_an_interruption_loses_no_line(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def interrupted(self: Upscaler, lr: np.ndarray, seen: Any) -> Iterator[np.ndarray]:
            if lr.shape[1] == 9:
                raise KeyboardInterrupt
            return repeated(self, lr, seen)

        monkeypatch.setattr(Upscaler, "rows", interrupted)
        image("in/a.png")
        Path("in/b.png").write_text("no image")
        image("in/c.png", 9)
        result = run("in", "-o", "out")
        assert result.exit_code not in (0, 1)
        assert "in/b.png: not an image of a known format" in result.output
        assert [path.name for path in Path("out").iterdir()] == ["a.png"]
