"""`tvqrap-cli upscale`: files, folders and the names of outputs."""

import io
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.limits import files_up_to, lock_folders
from tests.support.upscaling import image, opened, repeated
from tvqrap.upscaling.upscaler import Upscaler


class TestFiles:
    def test_one_photo_as_from_python(self, run: Any, tiny_model: Path) -> None:
        photo = image("photo.png", 100, 20)
        result = run(photo, "-o", "new/large.png", "--tile", "64")
        assert result.exit_code == 0, result.output
        expected = Upscaler.from_pretrained(tiny_model, tile=64)(opened(photo))
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
        assert result.output.endswith("\n2 upscaled, 3 failed\n")
        assert sorted(path.as_posix() for path in Path("out").rglob("*.*")) == [
            "out/a.png",
            "out/deep/b.jpg",
        ]

    def test_what_is_done_is_skipped(self, run: Any) -> None:
        image("in/a.png")
        image("in/b.png")
        Path("out").mkdir()
        Path("out/a.png").write_bytes(b"mine")
        result = run("in", "-o", "out")
        assert result.exit_code == 0 and "1 upscaled, 1 there already\n" in result.output
        assert Path("out/a.png").read_bytes() == b"mine"
        assert opened("out/b.png").size == (20, 12)
        assert "0 upscaled, 2 there already\n" in run("in", "-o", "out").output
        result = run("in/a.png", "-o", "out/a.png")
        assert result.exit_code == 0 and "0 upscaled, 1 there already\n" in result.output
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
        assert result.output.splitlines()[1:] == [
            "out/b.png: stale, in/b.png has changed since",
            "error: out/a.png: is a folder, expected an image or nothing",
            "0 upscaled, 2 there already, 1 failed",
        ]

    def test_a_name_that_cannot_even_be_looked_for_ends_one_photograph(self, run: Any) -> None:
        """As one in a folder without permission, which the tests' user may have."""
        image("a.png")
        long = "b" * 300 + ".png"
        result = run("a.png", long, "-o", "out")
        assert result.exit_code == 1 and opened("out/a.png").size == (20, 12)
        assert long in result.output and "1 upscaled, 1 failed" in result.output

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

    def test_names_that_differ_in_their_ending(self, run: Any, quick: None) -> None:
        for name in ("in/a.jpg", "in/a.tif", "in/b.tif"):
            image(name)
        result = run("in", "in/b.tif", "-o", "out", "--format", "png")
        assert result.exit_code == 0, result.output
        names = sorted(path.name for path in Path("out").iterdir())
        assert names == ["a.jpg.png", "a.tif.png", "b.png"]

    def test_folders_that_cannot_be_searched_are_named(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image("in/a.png", 1, 1)
        image("in/locked/b.png", 1, 1)
        lock_folders("locked", monkeypatch)
        result = run("in", "-o", "out")
        assert result.exit_code == 1
        assert "in/locked: cannot be searched (Permission denied)" in result.output
        assert opened("out/a.png").size == (4, 4)

    def test_a_missing_input_is_what_is_said(self, run: Any) -> None:
        result = run("none.png", "-o", "out")
        assert result.exit_code == 1 and "error: none.png: no such file\n" in result.output

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
        assert result.exit_code == 0 and "1 there already" in result.output
        assert list(Path("in/large").iterdir()) == [Path("in/large/a.png")]

    def test_files_that_are_passed_over_are_counted(self, run: Any, quick: None) -> None:
        for name in ("a.png", "b.jfif", "c.gif", "d.ppm"):
            image(f"in/{name}", format="JPEG" if name == "b.jfif" else None)
        for name in ("a.xmp", "Thumbs.db", ".DS_Store"):
            Path("in", name).touch()
        result = run("in", "-o", "out")
        assert result.exit_code == 0
        assert result.output.splitlines()[1] == (
            "in: passed over: 1 hidden (.DS_Store), 2 not named as images (.db, .xmp)"
        )
        assert len(list(Path("out").iterdir())) == 4

    def test_a_pipe_hangs_nothing(self, run: Any, quick: None) -> None:
        image("in/a.png")
        os.mkfifo("in/p.png")
        result = run("in", "-o", "out")
        assert result.exit_code == 0 and "1 neither a file nor a folder (p.png)" in result.output
        result = run("in/p.png", "-o", "b.png")
        assert result.exit_code == 1 and "is not a regular file" in result.output

    def test_three_files_of_one_stem(self, run: Any, quick: None) -> None:
        for name in ("a.jpg", "a.png", "a.jpg.png", "SAME.png", "Same.png"):
            image(f"in/{name}")
        result = run("in", "-o", "out", "--format", "png")
        assert result.exit_code == 0, result.output
        names = sorted(path.name for path in Path("out").iterdir())
        assert names == ["SAME.png.png", "Same.png.2.png", "a.jpg.2.png", "a.jpg.png", "a.png.png"]

    def test_an_input_that_yields_nothing_does_not_stop_the_rest(
        self, run: Any, quick: None
    ) -> None:
        image("a.png")
        Path("empty").mkdir()
        result = run("a.png", "*.bmp", "empty", "-o", "out")
        assert result.exit_code == 1 and opened("out/a.png").size == (20, 12)
        for message in (
            "*.bmp: matches no file",
            "empty: holds no images",
            "1 upscaled, 2 inputs not searched",
        ):
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

    def test_links_in_a_circle_end_one_photograph(self, run: Any) -> None:
        image("a.png")
        Path("l.png").symlink_to("l.png")
        result = run("l.png", "a.png", "-o", "out/")
        assert result.exit_code == 1 and opened("out/a.png").size == (20, 12)
        assert "error: l.png: cannot be read as an image (" in result.output
        assert result.output.endswith("\n1 upscaled, 1 failed\n")

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
        monkeypatch.setattr("tvqrap.upscaling.files.LARGEST_INPUT", 100)
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

    def test_the_longest_names_can_be_written(self, run: Any, quick: None) -> None:
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
        self, run: Any, name: str, quick: None
    ) -> None:
        image("a.png", 60, 60)
        with files_up_to(8192):
            result = run("a.png", "-o", f"out/{name}")
        assert result.exit_code == 1 and f"{name}: cannot be written (" in result.output
        assert not list(Path("out").iterdir())

    def test_a_full_folder_for_temporary_files_stops_nothing(
        self, run: Any, quick: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("tempfile.tempdir", "/nowhere")
        image("a.png", 60, 60)
        assert run("a.png", "-o", "b.jpg").exit_code == 0
        assert opened("b.jpg").size == (240, 240)


@pytest.mark.usefixtures("quick")
class TestNames:
    """Where outputs go, and what they are called."""

    def test_beside_the_photographs(self, run: Any) -> None:
        image("in/a.jpg")
        image("in/deep/b.heic", format="PNG")
        for _ in range(2):  # outputs are no photographs of the next call
            assert run("in").exit_code == 0
        assert "passed over: 2 outputs of the photographs beside" in run("in").output
        assert run("in", "--scale", "2").exit_code == 0
        assert run("in/a.jpg", "--size", "10x10").exit_code == 0
        assert sorted(path.as_posix() for path in Path("in").rglob("*.*")) == [
            *("in/a.jpg", "in/a_10x10.jpg", "in/a_x2.jpg", "in/a_x4.jpg"),
            *("in/deep/b.heic", "in/deep/b_x2.png", "in/deep/b_x4.png"),
        ]
        assert opened("in/a_x4.jpg").size == (20, 12)
        assert opened("in/a_10x10.jpg").size == (10, 6)

    def test_a_suffix_makes_room_in_the_photographs_folder(self, run: Any) -> None:
        image("in/a.png")
        for _ in range(2):
            assert run("in", "-o", "in", "--suffix", ".large").exit_code == 0
        assert sorted(path.name for path in Path("in").iterdir()) == ["a.large.png", "a.png"]

    def test_folders_are_made_for_one_photograph_too(self, run: Any) -> None:
        photo = image("a.JPG")
        for folder in ("new", "newer.v2/", "newest/deep/"):
            assert run(photo, "-o", folder).exit_code == 0
            assert opened(Path(folder, "a.JPG")).format == "JPEG"

    def test_the_format_is_the_photographs_unless_another_is_asked_for(self, run: Any) -> None:
        names = ("a.jpeg", "b.tiff", "c.webp", "d.avif", "e.bmp", "f.gif", "g.png")
        for name in names:
            image(f"in/{name}")
        assert run("in", "-o", "out").exit_code == 0
        written = {path.name: opened(path).format for path in Path("out").iterdir()}
        assert written == {
            "a.jpeg": "JPEG",
            "b.tiff": "TIFF",
            "c.webp": "WEBP",
            "d.avif": "AVIF",
            "e.png": "PNG",
            "f.png": "PNG",
            "g.png": "PNG",
        }
        assert run("in", "-o", "all", "--format", "webp").exit_code == 0
        assert {path.suffix for path in Path("all").iterdir()} == {".webp"}

    def test_folders_inside_are_left_out_if_asked(self, run: Any) -> None:
        image("in/a.png")
        image("in/deep/b.png")
        result = run("in", "-o", "out", "--no-recursive")
        assert result.exit_code == 0
        assert "in: passed over: 1 a folder (deep)" in result.output
        assert [path.name for path in Path("out").iterdir()] == ["a.png"]

    def test_a_dry_run_lists_and_does_nothing(
        self, run: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        image("in/a.png")
        image("in/b.png")
        Path("in/c.png").write_text("no image")
        assert run("in/a.png", "-o", "out").exit_code == 0
        monkeypatch.setattr(Upscaler, "from_pretrained", None)  # not even loaded
        result = run("in", "-o", "out", "--dry-run")
        assert result.exit_code == 1
        assert result.stdout == "in/b.png -> out/b.png: 5x3 to 20x12\n"
        assert result.output.endswith("\n1 to upscale, 1 there already, 1 failed\n")
        assert [path.name for path in Path("out").iterdir()] == ["a.png"]
