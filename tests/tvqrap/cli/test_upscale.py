"""`tvqrap-cli upscale`: its options, and the model it takes."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support import commands
from tests.support.upscaling import image, opened
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.upscaling.upscaler import Upscaler


class TestChoices:
    @pytest.mark.parametrize(
        ("outscale", "size"), [("2", (10, 6)), ("2.5", (12, 8)), ("8", (40, 24)), ("0.1", (1, 1))]
    )
    def test_any_scale(self, run: Any, outscale: str, size: tuple[int, int]) -> None:
        image("a.png", mode="RGBA")
        assert run("a.png", "-o", "b.png", "--scale", outscale).exit_code == 0
        assert opened("b.png").size == size

    def test_precision_and_colour(self, run: Any) -> None:
        photo = image("a.png", 40, 40)
        for name, options in {
            "plain": (),
            "rough": ("--precision", "bfloat16"),
            "match": ("--colour", "match"),
        }.items():
            assert run(photo, "-o", f"{name}.png", *options).exit_code == 0
        given, plain, match = (
            np.asarray(opened(name)).mean((0, 1)) for name in (photo, "plain.png", "match.png")
        )
        assert np.abs(match - given).max() < np.abs(plain - given).max()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("a.png", "-o", "out.gif"), "ends in one of .png"),
            (("a.png", "b/a.png", "-o", "out"), "both"),
            (("a.png", "b", "-o", "new.png"), "expected a folder for several images"),
            (("b", "-o", "new.png"), "expected a folder for several images"),
            (("-", "-o", "out"), "expected a file's name, or -"),
            (("*.png", "b/*", "-o", "-"), "one photograph"),
            (("a.png", "b", "-o", "a.png"), "is a file"),
            (("a.png", "-", "-o", "out"), "one photograph"),
            (
                ("a.png", "-o", "out.png", "--device", "tpu"),
                "--device is 'tpu', expected auto",
            ),
            (("a.png", "-o", "out.png", "--precision", "int8"), "--precision is 'int8'"),
            (("a.png", "-o", "out.png", "--colour", "red"), "--colour is 'red'"),
            (("a.png", "-o", "out.png", "--tile", "100"), "--tile is 100, expected a multiple"),
            (("a.png", "-o", "out.png", "--scale", "0"), "--scale is 0, expected more than 0"),
            (("a.png", "-o", "out.png", "--scale", "2", "--size", "9x9"), "in place of scale"),
            (("a.png", "-o", "out.png", "--size", "9"), "expected WIDTHxHEIGHT, as 3840x2160"),
            (("a.png", "-o", "out.png", "--size", "0x9"), "expected 1x1 or more"),
            (("a.png", "-o", "out.png", "--suffix", "_x4"), "expected a folder with --suffix"),
            (("a.png", "--suffix", "a/b"), "expected a part of a file's name"),
            (("a.png", "-o", "out.png", "--device", "cuda:99"), "--device is 'cuda:99', but torch"),
            (("-",), "expected a file's name, or -"),
            (("a.png", "-o", "out.png", "--lossless"), "--lossless has no meaning for png"),
            (("a.png", "-o", "b.webp", "--lossless", "--quality", "9"), "expected one of them"),
            (("a.png", "-o", "out.jpg", "--compression", "9"), "expected format png, tiff"),
            (("a.png", "-o", "out.tif", "--compression", "10"), "--compression is 10, expected 0"),
            (("a.png", "-o", "a.png/"), "a.png: is a file, expected a folder"),
            (
                ("a.png", "-o", "out.png", "--quality", "9"),
                "--quality has no meaning for png",
            ),
            (("a.png", "-o", "out.jpg", "--quality", "101"), "expected 1 to 100"),
            (("a.png", "-o", "out.jpg", "--format", "png"), "does not end in .png"),
            (
                ("a.png", "-o", "out.png", "--format", "gif"),
                "--format is 'gif', expected one of png",
            ),
        ],
    )
    def test_wrong_use(self, run: Any, arguments: tuple[str, ...], message: str) -> None:
        image("a.png", 2, 2)
        image("b/a.png", 2, 2)
        result = run(*arguments)
        assert result.exit_code == 2 and message in result.output, result.output
        assert len(result.output.splitlines()) == 1

    def test_without_a_choice_it_is_the_packages_model(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        photo = image("a.png", 20, 12)
        result = commands.run("upscale", photo, "-o", "b.png")
        assert result.exit_code == 0, result.output
        with Image.open(photo) as given, Image.open("b.png") as written:
            expected = np.asarray(Upscaler()(given.convert("RGB")))
            assert np.array_equal(np.asarray(written.convert("RGB")), expected)

    def test_no_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        photo = image("a.png", 2, 2)
        Path("empty").mkdir()
        for model, message in (("no.pth", "no such file or folder"), ("empty", "no model there")):
            result = commands.run("upscale", photo, "-o", "b.png", "--model", model)
            assert result.exit_code == 1 and f"{model}: {message}" in result.output
        result = commands.run("upscale", "empty", "-o", "c")
        assert result.exit_code == 1 and "holds no images" in result.output


class TestModels:
    def test_the_first_line_says_which_model_and_where_from(
        self, run: Any, tiny_model: Path
    ) -> None:
        photo = image("a.png")
        first = run(photo, "-o", "b.png").output.splitlines()[0]
        assert first.startswith(f"model: {tiny_model}, fingerprint ")
        packaged = commands.run("upscale", photo, "--dry-run")
        assert packaged.output.startswith("model: the package's, fingerprint ")

    def test_files_of_other_projects(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        esrgan = pytest.importorskip("spandrel.architectures.ESRGAN")
        monkeypatch.chdir(tmp_path)
        state = esrgan.ESRGAN(num_filters=8, num_blocks=1, scale=4).state_dict()
        torch.save({"params_ema": state}, "x4.pth")
        photo = image("a.png", 20, 12)
        result = commands.run("upscale", photo, "-o", "b.png", "--model", "x4.pth")
        assert result.exit_code == 0, result.output
        assert result.output.startswith("model: x4.pth, by spandrel, fingerprint ")
        expected = Upscaler.from_pretrained("x4.pth")(opened(photo))
        assert np.array_equal(np.asarray(opened("b.png")), np.asarray(expected))

    def test_a_model_of_another_ending(self, tmp_path: Path) -> None:
        photo, other = image(tmp_path / "a.png"), tmp_path / "x4.txt"
        other.write_text("weights")
        result = commands.run("upscale", photo, "--model", other)
        assert result.exit_code == 1
        expected = "expected a model folder, or a file .pth or .safetensors"
        assert result.output == f"error: {other}: {expected}\n"

    @pytest.mark.parametrize(
        "wrong",
        [
            *(("--device", "tpu"), ("--precision", "int8"), ("--colour", "red"), ("--tile", "100")),
            *(("--quality", "9"), ("--scale", "-1"), ("--device", "cuda:99"), ("--size", "a")),
        ],
    )
    def test_options_are_checked_although_nothing_is_to_do(
        self, run: Any, wrong: tuple[str, str], quick: None
    ) -> None:
        photo = image("a.png")
        assert run(photo, "-o", "b.png").exit_code == 0
        assert run(photo, "-o", "b.png", *wrong).exit_code == 2

    def test_memory_that_runs_out_is_one_line(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def hungry(*_: object) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        monkeypatch.setattr(UpscalerNetwork, "forward", hungry)
        result = run(image("a.png"), "-o", "b.png")
        assert result.exit_code == 1
        assert "error: a.png: memory ran out with tiles of 64\n" in result.output


def test_without_what_windows_and_macos_lack(tiny_model: Path, tmp_path: Path) -> None:
    code = """
import os, sys
for module in ("fcntl", "resource", "termios", "pwd", "grp"):
    sys.modules[module] = None
for name in ("sched_getaffinity", "sysconf", "getuid", "geteuid"):
    delattr(os, name)
from tvqrap.cli.main import app
app(sys.argv[1:])
"""
    image(tmp_path / "in/A.PNG")
    image(tmp_path / "in/b.jpg")
    words = ["upscale", tmp_path / "in", "-o", tmp_path / "out", "--model", tiny_model]
    command = [sys.executable, "-W", "ignore", "-c", code, *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr.endswith("2 upscaled\n"), done.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["A.PNG", "b.jpg"]


def test_photographs_over_100_megapixels_by_an_option(
    run: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    Image.new("L", (20_000, 10_000)).save("large.png")  # more than Pillow reads if not told
    result = run("large.png", "-o", "out.png", "--dry-run")
    assert result.exit_code == 1
    assert "20000x10000 is 200000000 pixels, at most 100000000 are read" in result.output
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", Image.MAX_IMAGE_PIXELS)
    result = run("large.png", "-o", "out.png", "--dry-run", "--max-pixels", "200000000")
    assert "large.png -> out.png: 20000x10000 to 80000x40000\n" in result.output
