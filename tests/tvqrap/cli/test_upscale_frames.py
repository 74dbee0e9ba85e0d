"""`tvqrap-cli upscale --frames`: animations and files of several pages."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, ImageSequence

from tests.support.upscaling import image, opened, picture

DURATIONS = [40, 120, 250]


def moving(width: int = 24, height: int = 16, count: int = 3) -> list[Image.Image]:
    """A square that moves over a picture, of few colours, so that GIF keeps them."""
    ground = picture(width, height).quantize(16).convert("RGB")
    frames = []
    for number in range(count):
        frame = ground.copy()
        frame.paste((255, 0, 0), (4 * number, 3, 4 * number + 5, 9))
        frames.append(frame)
    return frames


def animation(name: str, frames: list[Image.Image], **options: Any) -> Path:
    frames[0].save(
        name, save_all=True, append_images=frames[1:], duration=DURATIONS[: len(frames)], **options
    )
    return Path(name)


def shown(path: str | Path, mode: str = "RGBA") -> list[np.ndarray]:
    """All frames as they are shown, and the durations in `durations` of the same order."""
    with Image.open(path) as file:
        return [np.asarray(frame.convert(mode)) for frame in ImageSequence.Iterator(file)]


def durations(path: str | Path) -> list[float]:
    found = []
    with Image.open(path) as file:
        for frame in ImageSequence.Iterator(file):
            frame.load()
            found.append(frame.info["duration"])
    return found


@pytest.mark.parametrize(
    ("given", "options"), [("gif", {}), ("png", {}), ("webp", {"lossless": True})]
)
@pytest.mark.parametrize("written", ["png", "webp"])
def test_every_frame_is_upscaled(
    run: Any, quick: None, given: str, options: dict[str, Any], written: str
) -> None:
    photo = animation(f"a.{given}", moving(), loop=3, **options)
    lossless = ("--lossless",) if written == "webp" else ()
    result = run(photo, "-o", f"b.{written}", "--frames", "all", *lossless)
    assert result.exit_code == 0, result.output
    before, after = shown(photo), shown(f"b.{written}")
    assert len(after) == 3
    for small, large in zip(before, after, strict=True):
        np.testing.assert_array_equal(large, small.repeat(4, 0).repeat(4, 1))
    assert durations(f"b.{written}") == DURATIONS
    # A GIF counts repetitions, the others how often it is shown.
    assert opened(f"b.{written}").info["loop"] == (4 if given == "gif" else 3)


def test_avif_sequences(run: Any, quick: None) -> None:
    photo = animation("a.avif", moving(), quality=100, subsampling="4:4:4")
    assert run(photo, "-o", "b.avif", "--frames", "all").exit_code == 0
    before, after = shown(photo, "RGB"), shown("b.avif", "RGB")
    assert len(after) == 3 and durations("b.avif") == DURATIONS
    for small, large in zip(before, after, strict=True):
        assert np.abs(large.astype(int) - small.repeat(4, 0).repeat(4, 1)).mean() < 5


@pytest.mark.parametrize("disposal", [0, 1, 2, 3])
def test_frames_are_shown_over_each_other_as_the_file_says(
    run: Any, quick: None, disposal: int
) -> None:
    spots = []
    for number in range(3):
        spot = Image.new("RGBA", (24, 16))
        spot.paste((0, 90 * number, 255, 255), (6 * number, 2, 6 * number + 8, 11))
        spots.append(spot)
    photo = animation("a.gif", spots, disposal=disposal)
    result = run(photo, "-o", "b.png", "--frames", "all")
    assert result.exit_code == 0, result.output
    before, after = shown(photo), shown("b.png")
    for small, large in zip(before, after, strict=True):
        alpha = small[..., 3].repeat(4, 0).repeat(4, 1)
        far = np.asarray(Image.fromarray(alpha).resize(alpha.shape[::-1])) == large[..., 3]
        assert far.mean() > 0.8  # the edges of alpha are smooth
        whole = (alpha == 255) & (large[..., 3] == 255)
        colours = small[..., :3].repeat(4, 0).repeat(4, 1)
        np.testing.assert_array_equal(large[whole][:, :3], colours[whole])
    assert opened("b.png").info["loop"] == 1  # shown once, as a GIF without a number


def test_the_picture_for_programs_without_frames_is_none_of_them(run: Any, quick: None) -> None:
    frames = moving()
    still = Image.new("RGB", frames[0].size, (0, 255, 0))
    still.save("a.png", save_all=True, append_images=frames, default_image=True, duration=50)
    assert run("a.png", "-o", "b.png", "--frames", "all").exit_code == 0
    after = shown("b.png", "RGB")
    assert len(after) == 3
    np.testing.assert_array_equal(after[0][::4, ::4], np.asarray(frames[0]))


@pytest.mark.parametrize("level", [0, 6])
def test_pages_keep_their_sizes_bits_and_metadata(run: Any, quick: None, level: int) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    deep = Image.fromarray(np.arange(30 * 20, dtype=np.uint16).reshape(20, 30) * 100)
    pages = [picture(12, 9), deep, picture(7, 15, "L")]
    pages[0].save("a.tif", save_all=True, append_images=pages[1:], exif=exif, dpi=(300, 300))
    words = ("--frames", "all", "--compression", level)
    result = run("a.tif", "-o", "b.tif", *words)
    assert result.exit_code == 0, result.output
    with Image.open("b.tif") as large:
        assert large.n_frames == 3
        for number, page in enumerate(pages):
            large.seek(number)
            expected = np.asarray(page).repeat(4, 0).repeat(4, 1)
            found = np.asarray(large)
            assert found.dtype == expected.dtype
            assert np.abs(found.astype(int) - expected).max() <= (1 if page.mode[0] in "IL" else 0)
        large.seek(0)
        assert large.getexif()[0x010F] == "Maker" and large.info["dpi"] == (300, 300)


def test_a_file_of_one_image_is_the_same_with_the_flag(run: Any) -> None:
    photo = image("a.png", 20, 12)
    assert run(photo, "-o", "b.png").exit_code == 0
    assert run(photo, "-o", "c.png", "--frames", "all").exit_code == 0
    assert Path("b.png").read_bytes() == Path("c.png").read_bytes()


def test_what_cannot_be_is_one_line(run: Any) -> None:
    animation("a.gif", moving())
    image("b.tif", save_all=True, append_images=[picture(9, 9)])
    for words, message in (
        (("a.gif", "-o", "c.jpg"), "a.gif: holds 3 frames, jpeg holds one image (png, webp, avif "),
        (("b.tif", "-o", "c.png"), "b.tif: holds 2 pages, png holds frames of one size (tiff "),
        (("a.gif", "-o", "c.png", "--max-pixels", "1151"), "a.gif: 3 frames are 1152 pixels"),
        (("b.tif", "-o", "c.tif", "--max-pixels", "95"), "b.tif: 2 pages are 96 pixels, at most"),
    ):
        result = run(*words, "--frames", "all")
        assert result.exit_code == 1 and f"error: {message}" in result.output, result.output
    assert run("a.gif", "-o", "c.png", "--frames", "some").exit_code == 2
    assert not list(Path().glob("c.*"))


def test_an_animation_as_pages_loses_durations(run: Any, quick: None) -> None:
    result = run(animation("a.gif", moving()), "-o", "b.tif", "--frames", "all")
    assert result.exit_code == 0 and "in this file: durations of frames\n" in result.output
    assert len(shown("b.tif")) == 3


def test_the_first_frame_alone_and_all_are_told_apart(run: Any, quick: None) -> None:
    photo = animation("a.gif", moving())
    result = run(photo, "-o", "b.png")
    assert "holds 3 images, the first is read; --frames all takes every one" in result.output
    result = run(photo, "-o", "b.png", "--frames", "all")
    assert result.exit_code == 1 and "made with frames first (now all)" in result.output
    assert run(photo, "-o", "b.png", "--frames", "all", "--overwrite").exit_code == 0
    assert "1 there already" in run(photo, "-o", "b.png", "--frames", "all").output
    assert "frames all (now first)" in run(photo, "-o", "b.png").output
    listed = run(photo, "-o", "c.png", "--frames", "all", "--dry-run").output
    assert "24x16 to 96x64, 3 frames or pages" in listed


def test_what_does_not_move_is_the_same_in_all_frames(run: Any) -> None:
    ground = picture(192, 32)
    frames = []
    for colour in ("red", "white"):
        frame = ground.copy()
        frame.paste(colour, (172, 0, 192, 32))
        frames.append(frame)
    animation("a.png", frames)
    assert run("a.png", "-o", "b.png", "--frames", "all", "--tile", "64").exit_code == 0
    first, second = shown("b.png", "RGB")
    assert not np.array_equal(first[:, 680:], second[:, 680:])
    np.testing.assert_array_equal(first[:, :256], second[:, :256])
    for number, frame in enumerate(frames):
        frame.save(f"{number}.png")
        assert run(f"{number}.png", "-o", f"{number}-large.png", "--tile", "64").exit_code == 0
    alone = [np.asarray(opened(f"{number}-large.png")) for number in (0, 1)]
    assert not np.array_equal(alone[0][:, :256], alone[1][:, :256])
