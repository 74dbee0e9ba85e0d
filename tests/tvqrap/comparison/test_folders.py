"""Layouts of test sets, and reading of files to be scored."""

import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from tvqrap.comparison.folders import match_folders, match_realsr
from tvqrap.comparison.reading import read_scored
from tvqrap.runtime.errors import UserError


def image(path: Path, side: int = 16, mode: str = "RGB") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, (side, side)).save(path)
    return path


@pytest.fixture
def realsr(tmp_path: Path) -> Path:
    """A release with its training images and other scales."""
    for camera in ("Canon", "Nikon"):
        for number in ("001", "002"):
            stem = f"{camera}_{number}"
            image(tmp_path / camera / "Test" / "4" / f"{stem}_HR.png", 64)
            image(tmp_path / camera / "Test" / "4" / f"{stem}_LR4.png", 16)
            image(tmp_path / camera / "Test" / "2" / f"{stem}_HR.png", 64)
            image(tmp_path / camera / "Test" / "2" / f"{stem}_LR2.png", 32)
            image(tmp_path / camera / "Train" / "4" / f"{stem}_HR.png", 64)
            image(tmp_path / camera / "Train" / "4" / f"{stem}_LR4.png", 16)
    return tmp_path


def test_realsr_as_released(realsr: Path) -> None:
    matched = match_realsr(realsr, {}).images
    names = ["Canon_001", "Canon_002", "Nikon_001", "Nikon_002"]
    assert [case.name for case in matched] == names
    for case in matched:
        assert case.hr is not None and case.lr is not None
        assert case.hr.parts[-3:-1] == ("Test", "4") == case.lr.parts[-3:-1]
    part = match_realsr(realsr / "Canon" / "Test" / "4", {}).images
    assert [case.name for case in part] == names[:2]


@pytest.mark.parametrize("ending", ["", "_LR4", "_HR"])
def test_finished_images_of_realsr_by_any_of_its_names(realsr: Path, ending: str) -> None:
    made = realsr / "made"
    for name in ("Canon_001", "Canon_002"):
        image(made / f"{name}{ending}.png", 64)
    matched = match_realsr(realsr / "Canon" / "Test" / "4", {"theirs": made}).images
    assert matched[0].finished["theirs"].name == f"Canon_001{ending}.png"


def test_realsr_with_images_on_one_side(realsr: Path) -> None:
    (realsr / "Nikon/Test/4/Nikon_002_LR4.png").unlink()
    with pytest.raises(UserError, match="Nikon_002 has no _LR4"):
        match_realsr(realsr, {})
    with pytest.raises(UserError, match="NAME_HR"):
        match_realsr(image(realsr / "plain" / "a.png").parent, {})


def test_lr_alone(tmp_path: Path) -> None:
    image(tmp_path / "lq" / "a.png", 16)
    image(tmp_path / "made" / "a.png", 64)
    (case,) = match_folders(None, tmp_path / "lq", {"theirs": tmp_path / "made"}).images
    assert case.hr is None and case.lr is not None
    image(tmp_path / "made" / "a.png", 60)
    with pytest.raises(UserError, match="60x60, expected 64x64"):
        match_folders(None, tmp_path / "lq", {"theirs": tmp_path / "made"})
    image(tmp_path / "made" / "b.png", 64)
    with pytest.raises(UserError, match="b is only in"):
        match_folders(None, tmp_path / "lq", {"theirs": tmp_path / "made"})


def test_long_lists_of_names_are_shortened(tmp_path: Path) -> None:
    image(tmp_path / "gt" / "a.png", 16)
    for number in range(15):
        image(tmp_path / "made" / f"{number:02}.png", 16)
    with pytest.raises(UserError, match="and 6 more"):
        match_folders(tmp_path / "gt", None, {"theirs": tmp_path / "made"})


def test_opaque_pixels_are_read_and_others_refused(tmp_path: Path) -> None:
    opaque = Image.new("RGBA", (8, 8), (9, 9, 9, 255))
    opaque.save(tmp_path / "opaque.png")
    assert np.array_equal(read_scored(tmp_path / "opaque.png").pixels, np.full((8, 8, 3), 9))
    opaque.putpixel((0, 0), (9, 9, 9, 254))
    opaque.save(tmp_path / "clear.png")
    assert "is transparent" in str(read_scored(tmp_path / "clear.png").pixels)
    deep = np.full((8, 8), 257 * 100, dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    read = read_scored(tmp_path / "deep.png")
    assert "16 bits reduced to 8" in read.note
    assert np.array_equal(read.pixels, np.full((8, 8, 3), 100))
    cut = tmp_path / "cut.png"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(cut)
    cut.write_bytes(cut.read_bytes()[:5000])
    assert str(read_scored(cut).pixels).startswith(f"{cut}: cannot be read")
    assert read_scored(image(tmp_path / "plain.png")).note == ""


def test_16_bit_colours_are_rounded_as_gray_is_and_noted(tmp_path: Path) -> None:
    levels = np.arange(0, 65536, 257 // 4, dtype=np.uint16)[:900].reshape(30, 30)
    colours = np.repeat(levels[..., None], 3, axis=2)
    cv2.imwrite(str(tmp_path / "colours.png"), colours)
    cv2.imwrite(str(tmp_path / "colours.tif"), colours)
    Image.fromarray(levels).save(tmp_path / "gray.png")
    for name in ("colours.png", "colours.tif", "gray.png"):
        read = read_scored(tmp_path / name)
        assert "16 bits reduced to 8" in read.note, name
        assert np.array_equal(read.pixels, np.rint(colours / 257).astype(np.uint8)), name


def test_postscript_is_never_started(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "gt" / f"{name}.png")
        image(tmp_path / "made" / f"{name}.png")
    eps = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EndComments\n{} loop\n"
    (tmp_path / "gt" / "a.png").write_bytes(eps)
    (tmp_path / "made" / "a.png").write_bytes(eps)
    matched = match_folders(tmp_path / "gt", None, {"theirs": tmp_path / "made"})
    assert [case.name for case in matched.images] == ["a", "b"]
    assert "not an image" in str(read_scored(tmp_path / "gt" / "a.png").pixels)


def test_linked_folders_belong_to_the_set_and_other_files_are_noted(tmp_path: Path) -> None:
    image(tmp_path / "elsewhere" / "two.png")
    for name in ("gt", "made"):
        image(tmp_path / name / "one.png")
        (tmp_path / name / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "gt" / "list.txt").write_text("one")
    matched = match_folders(tmp_path / "gt", None, {"theirs": tmp_path / "made"})
    assert [case.name for case in matched.images] == ["linked/two", "one"]
    assert matched.notes == (f"{tmp_path / 'gt'}: passed over: 1 not named as images (.txt)",)


def test_names_match_in_both_spellings_of_accents(tmp_path: Path) -> None:
    image(tmp_path / "gt" / f"{unicodedata.normalize('NFC', 'über')}.png")
    image(tmp_path / "made" / f"{unicodedata.normalize('NFD', 'über')}.png")
    (case,) = match_folders(tmp_path / "gt", None, {"theirs": tmp_path / "made"}).images
    assert case.name == "\u00fcber" and case.finished["theirs"].exists()


def test_control_characters_of_names_are_not_shown(tmp_path: Path) -> None:
    for name in ("gt", "made"):
        image(tmp_path / name / "a\x1b[31m.png")
    (case,) = match_folders(tmp_path / "gt", None, {"theirs": tmp_path / "made"}).images
    assert case.name == "a\\x1b[31m"
