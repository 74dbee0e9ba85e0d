"""Files and folders from Python."""

import doctest
from pathlib import Path

import numpy as np
import pytest

import tvqrap
from tests.support.documents import pages
from tests.support.upscaling import TINY, image, opened
from tvqrap import OutputSettings, Upscaler, upscale_file, upscale_files
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.photo_io.formats import FORMATS
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.upscaling import files
from tvqrap.upscaling.claims import claim
from tvqrap.upscaling.jobs import Job
from tvqrap.upscaling.record import made_by, read_record


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def upscaler(quick: None) -> Upscaler:
    return Upscaler(UpscalerNetwork(TINY), device="cpu")


def test_the_examples_of_the_docstrings() -> None:
    for name in ("photo.jpg", "album/a.jpg", "album/b.jpg"):
        image(name, 20, 12)
    Path("album/broken.jpg").write_text("no image")
    result = doctest.testmod(files, extraglobs=vars(tvqrap))
    assert result.attempted >= 5 and result.failed == 0
    assert opened("twice.webp").size == (40, 24)


def test_the_program_of_the_page(upscaler: Upscaler, capsys: pytest.CaptureFixture[str]) -> None:
    image("photo.jpg")
    image("album/a.jpg")
    (page,) = (page for page in pages() if page.name == "docs/upscaling.md")
    ((_, code),) = page.fences
    exec(code, {})
    assert opened("large.png").size == (20, 12) and opened("large/a.webp").size == (10, 6)
    assert "a.jpg upscaled" in capsys.readouterr().out


def test_a_file_that_fails_raises(upscaler: Upscaler) -> None:
    photo = image("a.png")
    assert upscale_file(photo, "b.png", upscaler).status == "upscaled"
    expected = np.asarray(opened(photo)).repeat(4, 0).repeat(4, 1)
    assert np.array_equal(np.asarray(opened("b.png")), expected)
    record = read_record(Path("b.png"))
    assert record is not None and record["model"] == upscaler.fingerprint[:12]
    half = OutputSettings(scale=2)
    with pytest.raises(UserError, match=r"b.png: made with size 20x12 \(now 10x6\)"):
        upscale_file(photo, "b.png", upscaler, half)
    assert upscale_file(photo, "b.png", upscaler, half, overwrite=True).status == "upscaled"
    with pytest.raises(UserError, match=r"none\.png: no such file"):
        upscale_file("none.png", "c.png", upscaler)
    with pytest.raises(ValueError, match="quality has no meaning for png"):
        upscale_file(photo, "c.png", upscaler, OutputSettings(quality=9))
    with pytest.raises(UsageError, match="is an input"):
        upscale_file(photo, photo, upscaler, overwrite=True)


def test_one_photograph_is_no_folder_and_no_glob(upscaler: Upscaler) -> None:
    for name in ("two/a.png", "two/b.png", "two/c[1].png"):
        image(name)
    for source, kind in (("two", "folder"), ("two/*.png", "glob"), ("two/a*", "glob")):
        with pytest.raises(UsageError) as raised:
            upscale_file(source, "out/", upscaler)
        expected = f"is a {kind}, expected one photograph (upscale_files takes it)"
        assert str(raised.value) == f"{source}: {expected}"
    assert not Path("out").exists()
    assert upscale_file("two/c[1].png", "c.png", upscaler).status == "upscaled"


def test_closed_standard_input_and_output_are_one_line(
    upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch
) -> None:
    photo = image("b.png")
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(UserError) as raised:
        upscale_file("-", "a.png", upscaler)
    assert str(raised.value) == "standard input: is closed, expected a photograph"
    monkeypatch.setattr("sys.stdout", None)
    with pytest.raises(UserError) as raised:
        upscale_file(photo, "-", upscaler)
    assert str(raised.value) == "standard output: is closed, expected a pipe or a file"


@pytest.mark.parametrize("given", [{"tile": 64}, {"overlap": 8}, {"pad_multiple": 128}])
def test_limits_of_tiles_are_recorded_where_they_are_given(
    upscaler: Upscaler, given: dict[str, int]
) -> None:
    photo = image("a.png")
    other = Upscaler(upscaler.network, device="cpu", **given)  # type: ignore[arg-type]
    ((name, value),) = given.items()
    assert upscale_file(photo, "b.png", upscaler).status == "upscaled"
    with pytest.raises(UserError, match=rf"b.png: made with {name} auto \(now {value}\)"):
        upscale_file(photo, "b.png", other)
    assert upscale_file(photo, "c.png", other).status == "upscaled"
    with pytest.raises(UserError, match=rf"c.png: made with {name} {value} \(now auto\)"):
        upscale_file(photo, "c.png", upscaler)


def test_files_and_folders(upscaler: Upscaler, caplog: pytest.LogCaptureFixture) -> None:
    image("in/a.png")
    image("in/deep/b.jpg")
    image("c.tif")
    Path("in/notes.txt").touch()
    outcomes = list(
        upscale_files(["in", "c.tif", "none"], "out", upscaler, OutputSettings(format="webp"))
    )
    found = [(one.source.as_posix(), one.target.as_posix(), one.status) for one in outcomes]
    assert found == [
        ("in/a.png", "out/a.webp", "upscaled"),
        ("in/deep/b.jpg", "out/deep/b.webp", "upscaled"),
        ("c.tif", "out/c.webp", "upscaled"),
        ("none", "out/none.webp", "failed"),
    ]
    assert outcomes[-1].message == "none: no such file"
    assert "1 not named as images (.txt)" in caplog.text
    again = upscale_files("in", "out", upscaler, OutputSettings(format="webp"), recursive=False)
    assert [one.status for one in again] == ["exists"]


def test_the_size_fits_into_a_box(upscaler: Upscaler) -> None:
    photo = image("a.png", 40, 30)
    for number, (box, size) in enumerate(
        [((80, 80), (80, 60)), ((90, 60), (80, 60)), ((7, 7), (7, 5)), ((1000, 30), (40, 30))]
    ):
        upscale_file(photo, f"{number}.png", upscaler, OutputSettings(size=box))
        assert opened(f"{number}.png").size == size
    with pytest.raises(UserError, match="40x30 would be enlarged 100 times, expected at most 64"):
        upscale_file(photo, "c.png", upscaler, OutputSettings(size=(4000, 4000)))


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_another_process_wrote_since_the_check_stays(
    upscaler: Upscaler, overwrite: bool
) -> None:
    photo = image("a.png")
    if overwrite:
        image("b.png", 7)
    made = made_by(upscaler.fingerprint, "keep", "float32")
    mine, other = (files.FileUpscaler(OutputSettings(), made, overwrite) for _ in range(2))
    job = Job(photo, Path("b.png"), FORMATS["png"])
    tasks = [each.check(job) for each in (mine, other)]
    assert all(isinstance(task, files.Task) for task in tasks)
    with claim(job.target):
        assert mine.run_shared(tasks[0], upscaler) is None
    outcomes = [
        each.run_shared(task, upscaler) for each, task in zip((mine, other), tasks, strict=True)
    ]
    assert [outcome.status for outcome in outcomes] == ["upscaled", "exists"]
    assert opened("b.png").size == (20, 12)
