"""`tvqrap-cli upscale`, from the outside."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from PIL import Image, ImageCms
from typer.testing import CliRunner, Result

from tests.support.limits import files_up_to
from tvqrap.architecture import Architecture
from tvqrap.cli.main import app
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.upscaling.upscaler import Upscaler

TINY = Architecture(width=0.125, codebook=16, texture=8, structure=32)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(path, "upscaler", UpscalerNetwork(TINY), TINY, {})
    return path


@pytest.fixture
def run(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object, stdin: bytes | None = None) -> Result:
        words = ["upscale", *map(str, arguments), "--model", str(model)]
        return CliRunner().invoke(app, words, input=stdin)

    return call


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels).convert(mode)


def image(name: str, width: int = 5, height: int = 3, mode: str = "RGB", **options: Any) -> Path:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(width, height, mode).save(path, **options)
    return path


def repeated(self: Upscaler, lr: np.ndarray, seen: Any) -> Iterator[np.ndarray]:
    """In place of `Upscaler.rows`: each pixel 4x4 times, in bands."""
    large = lr.repeat(4, 0).repeat(4, 1)
    for top in range(0, len(large), 10):
        yield large[top : top + 10]


def opened(name: str | Path) -> Image.Image:
    with Image.open(name) as found:
        found.load()
        return found


class TestFiles:
    def test_one_photo_as_from_python(self, run: Any, model: Path) -> None:
        photo = image("photo.png", 100, 20)
        result = run(photo, "-o", "new/large.png", "--tile", "64")
        assert result.exit_code == 0, result.output
        expected = Upscaler.from_pretrained(model, tile=64)(opened(photo))
        np.testing.assert_array_equal(np.asarray(opened("new/large.png")), np.asarray(expected))

    def test_a_folder_keeps_its_tree_and_bad_files_are_named(self, run: Any) -> None:
        image("in/a.png")
        image("in/deep/b.jpg")
        cut = image("in/cut.png", 64, 64)
        cut.write_bytes(cut.read_bytes()[:6000])
        Path("in/no.png").write_text("no image")
        result = run("in", "none.png", "-o", "out")
        assert result.exit_code == 1
        for message in ("cut.png: cannot", "no.png: not an image", "none.png: no such file"):
            assert message in result.output
        assert "3 of 5 images could not be upscaled" in result.output
        assert sorted(path.as_posix() for path in Path("out").rglob("*.*")) == [
            "out/a.png",
            "out/deep/b.png",
        ]

    def test_what_is_done_is_skipped(self, run: Any) -> None:
        image("in/a.png")
        image("in/b.png")
        Path("out").mkdir()
        Path("out/a.png").write_bytes(b"mine")
        result = run("in", "-o", "out")
        assert result.exit_code == 0 and "1 of 2 is there already, skipped" in result.output
        assert Path("out/a.png").read_bytes() == b"mine"
        assert opened("out/b.png").size == (20, 12)
        assert "2 of 2 are there already" in run("in", "-o", "out").output
        result = run("in/a.png", "-o", "out/a.png")
        assert result.exit_code == 0 and "--overwrite" in result.output
        assert run("in", "-o", "out", "--overwrite").exit_code == 0
        assert opened("out/a.png").size == (20, 12)

    def test_a_folder_in_the_way_and_stale_outputs_are_named(self, run: Any) -> None:
        for name in ("a", "b", "c"):
            image(f"in/{name}.png", 1, 1)
        Path("out/a.png").mkdir(parents=True)
        for name in ("b", "c"):
            image(f"out/{name}.png", 4, 4)
        os.utime("out/b.png", (0, 0))
        result = run("in", "-o", "out")
        assert result.exit_code == 1
        assert result.output.splitlines() == [
            "out/b.png: stale, in/b.png has changed since",
            "outputs: 2 of 3 are there already, skipped; --overwrite replaces",
            "out/a.png: is a folder, expected an image or nothing",
            "error: 1 of 3 images could not be upscaled",
        ]

    def test_a_name_that_cannot_even_be_looked_for_ends_one_photograph(self, run: Any) -> None:
        """As one in a folder without permission, which the tests' user may have."""
        image("a.png")
        long = "b" * 300 + ".png"
        result = run("a.png", long, "-o", "out")
        assert result.exit_code == 1 and opened("out/a.png").size == (20, 12)
        assert long in result.output and "1 of 2 images could not" in result.output

    def test_what_no_one_foresaw_ends_one_photograph(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail_once(self: Upscaler, lr: np.ndarray, seen: Any) -> Iterator[np.ndarray]:
            if lr.shape[1] == 5:
                raise KeyError("odd")
            return repeated(self, lr, seen)

        monkeypatch.setattr(Upscaler, "rows", fail_once)
        image("in/a.png")
        image("in/b.png", 7)
        result = run("in", "-o", "out")
        assert result.exit_code == 1 and "in/a.png: KeyError: 'odd'" in result.output
        assert [path.name for path in Path("out").iterdir()] == ["b.png"]

    def test_names_that_differ_in_their_ending(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        for name in ("in/a.jpg", "in/a.tif", "in/b.tif"):
            image(name)
        result = run("in", "in/b.tif", "-o", "out")
        assert result.exit_code == 0, result.output
        names = sorted(path.name for path in Path("out").iterdir())
        assert names == ["a.jpg.png", "a.tif.png", "b.png"]

    def test_folders_that_cannot_be_searched_are_named(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image("in/a.png", 1, 1)
        image("in/locked/b.png", 1, 1)
        scandir = os.scandir

        def refuse(path: Any) -> Any:
            if Path(path).name == "locked":
                raise PermissionError(13, "Permission denied", str(path))
            return scandir(path)

        monkeypatch.setattr("os.scandir", refuse)
        result = run("in", "-o", "out")
        assert result.exit_code == 1
        assert "in/locked: cannot be searched (Permission denied)" in result.output
        assert opened("out/a.png").size == (4, 4)

    def test_a_missing_input_is_what_is_said(self, run: Any) -> None:
        result = run("none.png", "-o", "out")
        assert result.exit_code == 1 and result.output == "error: none.png: no such file\n"

    def test_an_input_is_never_written_over(self, run: Any) -> None:
        photo = image("in/a.png")
        for output in ("in/a.png", "in"):
            result = run("in", "-o", output, "--overwrite")
            assert result.exit_code == 2
        assert run(photo, "-o", photo, "--overwrite").exit_code == 2
        assert opened(photo).size == (5, 3)

    def test_outputs_inside_the_folder_are_no_inputs(self, run: Any) -> None:
        image("in/a.png")
        assert run("in", "-o", "in/large").exit_code == 0
        result = run("in", "-o", "in/large")
        assert result.exit_code == 0 and "skipped" in result.output
        assert list(Path("in/large").iterdir()) == [Path("in/large/a.png")]

    def test_files_that_are_passed_over_are_counted(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        for name in ("a.png", "b.jfif", "c.gif", "d.ppm"):
            image(f"in/{name}", format="JPEG" if name == "b.jfif" else None)
        for name in ("a.xmp", "Thumbs.db", ".DS_Store"):
            Path("in", name).touch()
        result = run("in", "-o", "out")
        assert result.exit_code == 0
        assert result.output.splitlines()[0] == (
            "in: passed over: 1 hidden (.DS_Store), 2 not named as images (.db, .xmp)"
        )
        assert len(list(Path("out").iterdir())) == 4

    def test_a_pipe_hangs_nothing(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        image("in/a.png")
        os.mkfifo("in/p.png")
        result = run("in", "-o", "out")
        assert result.exit_code == 0 and "1 neither a file nor a folder (p.png)" in result.output
        result = run("in/p.png", "-o", "b.png")
        assert result.exit_code == 1 and "is not a regular file" in result.output

    def test_three_files_of_one_stem(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        for name in ("a.jpg", "a.png", "a.jpg.png", "SAME.png", "Same.png"):
            image(f"in/{name}")
        result = run("in", "-o", "out")
        assert result.exit_code == 0, result.output
        names = sorted(path.name for path in Path("out").iterdir())
        assert names == ["SAME.png.png", "Same.png.2.png", "a.jpg.2.png", "a.jpg.png", "a.png.png"]

    def test_an_input_that_yields_nothing_does_not_stop_the_rest(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        image("a.png")
        Path("empty").mkdir()
        result = run("a.png", "*.bmp", "empty", "-o", "out")
        assert result.exit_code == 1 and opened("out/a.png").size == (20, 12)
        for message in ("*.bmp: matches no file", "empty: holds no images", "2 inputs could not"):
            assert message in result.output

    def test_links_out_of_the_folder_are_left_out(self, run: Any) -> None:
        image("in/a.png")
        image("elsewhere/b.png")
        Path("in/b.png").symlink_to(Path("elsewhere/b.png").resolve())
        Path("in/c").symlink_to(Path("elsewhere").resolve())
        Path("in/d.png").symlink_to("a.png")
        result = run("in", "-o", "out")
        assert result.exit_code == 0
        assert "2 a link that leads out of the folder (b.png); --follow-links" in result.output
        assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "d.png"]
        assert run("in", "-o", "all", "--follow-links").exit_code == 0
        assert opened("all/b.png").size == opened("all/c/b.png").size == (20, 12)

    def test_globs_that_the_shell_left(self, run: Any) -> None:
        for name in ("a.png", "b.png", "c.jpg"):
            image(name)
        assert run("*.png", "-o", "out").exit_code == 0
        assert sorted(path.name for path in Path("out").iterdir()) == ["a.png", "b.png"]
        assert "matches no file" in run("*.bmp", "-o", "out").output

    def test_standard_input_to_standard_output(self, run: Any) -> None:
        result = run("-", "-o", "-", stdin=image("a.png").read_bytes())
        assert result.exit_code == 0, result.stderr
        assert opened(io.BytesIO(result.stdout_bytes)).size == (20, 12)
        result = run("-", "-o", "-", stdin=b"no image")
        assert result.exit_code == 1 and "standard input: not an image" in result.stderr
        assert not result.stdout_bytes

    def test_standard_input_ends_somewhere(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("tvqrap.cli.upscale._LARGEST_INPUT", 100)
        result = run("-", "-o", "-", stdin=bytes(101))
        assert result.exit_code == 1
        assert "standard input: holds more than 100 bytes" in result.stderr

    def test_larger_photographs_are_asked_for(self, run: Any) -> None:
        photo = image("a.png")
        result = run(photo, "-o", "b.png", "--max-pixels", 14)
        assert result.exit_code == 1 and "5x3 is 15 pixels, at most 14 are read" in result.output
        assert run(photo, "-o", "b.png", "--max-pixels", 15).exit_code == 0

    def test_names_reach_the_terminal_without_control_characters(self, run: Any) -> None:
        for name in ("in/\x1b[31mred.png", "in/b\nc.png"):
            Path(name).parent.mkdir(exist_ok=True)
            Path(name).write_text("no image")
        result = run("in", "-o", "out")
        assert r"in/\x1b[31mred.png: not an image" in result.output
        assert r"in/b\x0ac.png: not an image" in result.output
        assert "\x1b" not in result.output

    def test_the_longest_names_can_be_written(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        photo = image("a" * 251 + ".png")
        assert run(photo, "-o", "out/" + "b" * 251 + ".png").exit_code == 0

    def test_a_failure_leaves_nothing(self, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        def fail(*_: object) -> None:
            raise OSError("disk full")

        monkeypatch.setattr("tvqrap.photo_io.png.PngWriter.finish", fail)
        result = run(image("a.png"), "-o", "out/b.png")
        assert result.exit_code == 1 and "b.png: cannot be written (disk full)" in result.output
        assert not list(Path("out").iterdir())

    @pytest.mark.parametrize("name", ["b.png", "b.jpg", "b.webp", "b.tif"])
    def test_a_full_disk_is_an_error_and_leaves_nothing(
        self, run: Any, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        image("a.png", 60, 60)
        with files_up_to(8192):
            result = run("a.png", "-o", f"out/{name}")
        assert result.exit_code == 1 and f"{name}: cannot be written (" in result.output
        assert not list(Path("out").iterdir())

    def test_a_full_folder_for_temporary_files_stops_nothing(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")
        image("a.png", 60, 60)
        assert run("a.png", "-o", "b.jpg").exit_code == 0
        assert opened("b.jpg").size == (240, 240)


class TestReruns:
    """A second call does what is still to be done, and says what it leaves."""

    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)

    @pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
    def test_other_settings_are_not_taken_for_done(self, run: Any, ending: str) -> None:
        photo, output = image("a.png"), f"out.{ending}"
        assert run(photo, "-o", output).exit_code == 0
        assert "is there already" in run(photo, "-o", output).output
        for option, value, said in (
            ("--outscale", "2", "outscale 4 (now 2)"),
            ("--colour", "match", "colour keep (now match)"),
        ):
            result = run(photo, "-o", output, option, value)
            assert result.exit_code == 1
            assert f"{output}: made with {said}; --overwrite replaces it" in result.output
            assert opened(output).size == (20, 12)
        assert run(photo, "-o", output, "--outscale", "2", "--overwrite").exit_code == 0
        assert opened(output).size == (10, 6)

    def test_another_model_is_not_taken_for_done(self, run: Any, tmp_path: Path) -> None:
        photo = image("a.png")
        assert run(photo, "-o", "b.png").exit_code == 0
        torch.manual_seed(1)
        save_model(tmp_path / "other", "upscaler", UpscalerNetwork(TINY), TINY, {})
        words = ["upscale", str(photo), "-o", "b.png", "--model", str(tmp_path / "other")]
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 1 and "b.png: made with model " in result.output

    def test_another_photograph_of_that_name_is_not_taken_for_done(self, run: Any) -> None:
        image("r1/x.png", 5)
        image("r2/x.png", 6)
        assert run("r1", "-o", "out").exit_code == 0
        result = run("r2", "-o", "out")
        assert result.exit_code == 1
        assert "out/x.png: made of another photograph" in result.output
        assert opened("out/x.png").size == (20, 12)

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


class TestFormats:
    @pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif", "bmp"])
    @pytest.mark.parametrize("size", [(1, 1), (7, 2)])
    def test_every_format_is_read(self, run: Any, ending: str, size: tuple[int, int]) -> None:
        image(f"a.{ending}", *size)
        result = run(f"a.{ending}", "-o", "b.png")
        assert result.exit_code == 0, result.output
        assert opened("b.png").size == (4 * size[0], 4 * size[1])

    @pytest.mark.parametrize("name", ["jpg", "tif"])
    def test_other_names_of_formats(
        self, run: Any, name: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        assert run(image("a.bmp"), "-o", f"b.{name}", "--format", name).exit_code == 0

    @pytest.mark.parametrize("name", ["png", "jpeg", "webp", "tiff"])
    def test_every_format_is_written(self, run: Any, name: str) -> None:
        image("in/a.bmp", 30, 20)
        assert run("in", "-o", "out", "--format", name).exit_code == 0
        (written,) = Path("out").iterdir()
        assert opened(written).format == name.upper()
        assert opened(written).size == (120, 80)

    def test_quality(self, run: Any) -> None:
        photo = image("a.png", 40, 40)
        for quality in (20, 90):
            run(photo, "-o", f"{quality}.jpg", "--quality", quality)
        assert 2 * Path("20.jpg").stat().st_size < Path("90.jpg").stat().st_size

    @pytest.mark.parametrize(
        ("mode", "ending", "same"),
        [
            ("L", "png", "L"),
            ("1", "png", "L"),
            ("LA", "png", "LA"),
            ("P", "png", "RGB"),
            ("RGBA", "png", "RGBA"),
            ("RGBA", "webp", "RGBA"),
            ("CMYK", "jpg", "RGB"),
            ("CMYK", "tif", "RGB"),
        ],
    )
    def test_gray_stays_gray_and_alpha_alpha(
        self, run: Any, mode: str, ending: str, same: str
    ) -> None:
        given = picture(9, 6, mode)
        if mode in ("LA", "RGBA"):
            given.putalpha(picture(9, 6, "L"))
        given.save(f"a.{ending}")
        assert run(f"a.{ending}", "-o", "b.png").exit_code == 0
        assert opened("b.png").mode == same

    def test_sixteen_bits(self, run: Any) -> None:
        cv2.imwrite("deep.png", np.full((8, 8, 3), 150 * 257, np.uint16))
        cv2.imwrite("flat.png", np.full((8, 8, 3), 150, np.uint8))
        for name in ("deep", "flat"):
            assert run(f"{name}.png", "-o", f"{name}-large.png").exit_code == 0
        deep, flat = (cv2.imread(f"{n}-large.png", cv2.IMREAD_UNCHANGED) for n in ("deep", "flat"))
        assert deep.dtype == np.uint16 and flat.dtype == np.uint8
        assert np.abs(deep / 257 - flat).max() < 0.51

    @pytest.mark.parametrize("channels", [1, 3, 4])
    @pytest.mark.parametrize(
        ("given", "options", "written"),
        [
            ("a.png", (), "b.tif"),
            ("a.tif", (cv2.IMWRITE_TIFF_COMPRESSION, 1), "b.png"),
            ("a.tif", (cv2.IMWRITE_TIFF_COMPRESSION, 5), "b.png"),  # LZW
        ],
    )
    def test_sixteen_bits_are_read_and_written_to_the_last(
        self,
        run: Any,
        channels: int,
        given: str,
        options: tuple[int, ...],
        written: str,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        pixels = np.random.default_rng(0).integers(1, 65536, (11, 7, channels), dtype=np.uint16)
        if channels == 4:
            pixels[..., 3] = 65535
            pixels[:6, :, 3] = 30000
        cv2.imwrite(given, pixels.squeeze(), options)
        monkeypatch.setattr(Upscaler, "rows", repeated)
        assert run(given, "-o", written).exit_code == 0
        large = cv2.imread(written, cv2.IMREAD_UNCHANGED)
        assert large.dtype == np.uint16
        expected = pixels.squeeze().repeat(4, 0).repeat(4, 1)
        if channels == 1:  # by way of RGB
            assert np.abs(large.astype(int) - expected).max() <= 1
        else:
            np.testing.assert_array_equal(large[..., :3], expected[..., :3])
        if channels == 4:
            assert large[0, 0, 3] == 30000 and large[-1, -1, 3] == 65535
        # At another scale; and in 8 bits where the format has no more.
        assert run(given, "-o", written, "--outscale", "2", "--overwrite").exit_code == 0
        half = cv2.imread(written, cv2.IMREAD_UNCHANGED)
        assert half.dtype == np.uint16 and half.shape[:2] == (22, 14)
        assert np.abs(half[8:14, 4:8].mean() - expected[16:28, 8:16].mean()) < 6000
        assert run(given, "-o", "b.webp").exit_code == 0
        flat = cv2.imread("b.webp", cv2.IMREAD_UNCHANGED)
        assert flat.dtype == np.uint8 and flat.shape[:2] == (44, 28)

    def test_one_transparent_colour_of_sixteen_bits(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        pixels = np.full((4, 4), 40001, np.uint16)
        pixels[:, 2:] = 40002  # the same upper byte
        Image.fromarray(pixels).save("a.png", transparency=40002)
        assert run("a.png", "-o", "b.png").exit_code == 0
        alpha = np.asarray(opened("b.png"))[..., -1]
        assert alpha[0, 0] == 255 and alpha[0, -1] == 0

    def test_standard_input_of_sixteen_bits(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Upscaler, "rows", repeated)
        pixels = np.random.default_rng(0).integers(0, 65536, (3, 5, 3), dtype=np.uint16)
        packed = cv2.imencode(".png", pixels)[1].tobytes()
        result = run("-", "-o", "-", stdin=packed)
        large = cv2.imdecode(np.frombuffer(result.stdout_bytes, np.uint8), cv2.IMREAD_UNCHANGED)
        np.testing.assert_array_equal(large, pixels.repeat(4, 0).repeat(4, 1))

    def test_transparency_is_enlarged_without_fringes(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        # White on one side; black that nobody sees on the other.
        pixels = np.zeros((16, 16, 4), np.uint8)
        pixels[:, :8] = 255
        Image.fromarray(pixels).save("a.png")

        def enlarge(self: Upscaler, lr: np.ndarray, seen: Any) -> Any:
            yield np.asarray(Image.fromarray(lr).resize((64, 64), Image.Resampling.BICUBIC))

        monkeypatch.setattr(Upscaler, "rows", enlarge)
        assert run("a.png", "-o", "b.png").exit_code == 0
        large = np.asarray(opened("b.png"))
        assert (large[..., :3] == 255).all()
        assert large[0, 0, 3] == 255 and large[0, -1, 3] == 0
        # On white where the format has no transparency.
        assert run("a.png", "-o", "b.jpg").exit_code == 0
        assert np.asarray(opened("b.jpg")).min() > 250

    @pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
    def test_profile_orientation_and_metadata(self, run: Any, ending: str) -> None:
        exif = Image.Exif()
        exif[0x0112], exif[0x010F], exif[0x0100] = 6, "Maker", 5
        exif[0x8769] = {0x829A: 0.5, 0xA002: 5, 0xA003: 3}
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'></x:xmpmeta>"
        image("a.jpg", exif=exif, icc_profile=profile, dpi=(72, 72), xmp=xmp)
        assert run("a.jpg", "-o", f"b.{ending}").exit_code == 0
        large = opened(f"b.{ending}")
        assert large.size == (12, 20)
        assert large.info["icc_profile"] == profile
        found = large.getexif()
        assert found[0x010F] == "Maker" and 0x0112 not in found
        folder = found.get_ifd(0x8769)
        assert (folder[0x829A], folder[0xA002], folder[0xA003]) == (0.5, 12, 20)
        assert large.info["xmp"] == xmp
        if ending != "webp":
            assert round(float(large.info["dpi"][0])) == 72

    def test_a_profile_of_other_colours_is_not_carried(self, run: Any) -> None:
        profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
        image("gray.png", mode="L", icc_profile=profile)
        assert run("gray.png", "-o", "b.png").exit_code == 0
        assert "icc_profile" not in opened("b.png").info

    @pytest.mark.parametrize(
        ("ending", "size", "limit"), [("webp", (4096, 1), 16383), ("jpg", (1, 16384), 65500)]
    )
    def test_what_a_format_cannot_hold_is_refused_at_once(
        self,
        run: Any,
        ending: str,
        size: tuple[int, int],
        limit: int,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(Upscaler, "from_pretrained", None)  # not even loaded
        result = run(image("a.png", *size), "-o", f"b.{ending}")
        assert result.exit_code == 1 and f"holds sides up to {limit}" in result.output

    def test_more_pages_than_one(self, run: Any) -> None:
        image("a.tif", save_all=True, append_images=[picture(5, 3)])
        result = run("a.tif", "-o", "b.png")
        assert result.exit_code == 0 and "holds 2 images, the first" in result.output


class TestChoices:
    @pytest.mark.parametrize(
        ("outscale", "size"), [("2", (10, 6)), ("2.5", (12, 8)), ("8", (40, 24)), ("0.1", (1, 1))]
    )
    def test_any_scale(self, run: Any, outscale: str, size: tuple[int, int]) -> None:
        image("a.png", mode="RGBA")
        assert run("a.png", "-o", "b.png", "--outscale", outscale).exit_code == 0
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
            (("a.png", "-o", "out"), "with an ending (.png)"),
            (("a.png", "b/a.png", "-o", "out"), "both"),
            (("a.png", "b", "-o", "new.png"), "expected a folder for several images"),
            (("b", "-o", "new.png"), "expected a folder for several images"),
            (("-", "-o", "out"), "with an ending (.png)"),
            (("*.png", "b/*", "-o", "-"), "one photograph"),
            (("a.png", "b", "-o", "a.png"), "is a file"),
            (("a.png", "-", "-o", "out"), "one photograph"),
            (("a.png", "-o", "out.png", "--device", "tpu"), "expected cpu or cuda"),
            (("a.png", "-o", "out.png", "--precision", "int8"), "--precision is 'int8'"),
            (("a.png", "-o", "out.png", "--colour", "red"), "--colour is 'red'"),
            (("a.png", "-o", "out.png", "--tile", "100"), "--tile is 100, expected a multiple"),
            (("a.png", "-o", "out.png", "--outscale", "0"), "--outscale: found 0"),
            (("a.png", "-o", "out.png", "--quality", "9"), "png is without loss"),
            (("a.png", "-o", "out.jpg", "--quality", "101"), "expected 1 to 100"),
            (("a.png", "-o", "out.jpg", "--format", "png"), "does not end in .png"),
            (("a.png", "-o", "out.png", "--format", "gif"), "expected one of png, jpeg"),
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
        result = CliRunner().invoke(app, ["upscale", str(photo), "-o", "b.png"])
        assert result.exit_code == 0, result.output
        with Image.open(photo) as given, Image.open("b.png") as written:
            expected = np.asarray(Upscaler()(given.convert("RGB")))
            assert np.array_equal(np.asarray(written.convert("RGB")), expected)

    def test_no_model(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(tmp_path)
        photo = str(image("a.png", 2, 2))
        result = CliRunner().invoke(app, ["upscale", photo, "-o", "b.png", "--model", "nothing"])
        assert result.exit_code == 1 and "no model there" in result.output
        Path("empty").mkdir()
        result = CliRunner().invoke(app, ["upscale", "empty", "-o", "c"])
        assert result.exit_code == 1 and "holds no images" in result.output
