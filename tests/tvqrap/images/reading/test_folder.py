"""Listing the images of a folder."""

import os
from pathlib import Path

import pytest

from tests.support.limits import lock_folders
from tvqrap.images.reading.folder import ANYWHERE, scan_folder
from tvqrap.runtime.errors import UserError


def touch(*names: str) -> None:
    for name in names:
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def images(folder: str, *links_to: Path) -> list[str]:
    scan = scan_folder(Path(folder), links_to)
    return [path.relative_to(folder).as_posix() for path in scan.images]


def test_every_ending_of_an_image_is_listed_in_order() -> None:
    names = ["a.avif", "b.PNG", "c/x.jfif", "c/y.JPE", "g.gif", "h.heic", "j.jp2", "p.ppm", "t.tga"]
    touch(*(f"in/{name}" for name in names))
    scan = scan_folder(Path("in"))
    assert [path.as_posix() for path in scan.images] == [f"in/{name}" for name in names]
    assert scan.summary() == ""


def test_what_is_passed_over_is_counted_by_reason() -> None:
    touch("in/a.jpg", "in/a.xmp", "in/b.xmp", "in/Thumbs.db", "in/.DS_Store", "in/._a.jpg")
    touch("in/a.jpg:Zone.Identifier", "in/@eaDir/a.jpg/thumb.jpg", "elsewhere/b.jpg")
    Path("in/b.jpg").symlink_to(Path("elsewhere/b.jpg").resolve())
    os.mkfifo("in/pipe.png")
    scan = scan_folder(Path("in"))
    assert scan.images == [Path("in/a.jpg")] and not scan.faults
    assert scan.summary() == (
        "passed over: 1 a folder of thumbnails (@eaDir), 1 a link that leads out of the folder "
        "(b.jpg), 2 hidden (.DS_Store), 1 neither a file nor a folder (pipe.png), 4 not named as "
        "images (.db, .identifier, .xmp)"
    )


def test_links_inside_the_folder_are_followed() -> None:
    touch("in/.store/a.png", "in/d/b.png", "in/c.png")
    Path("in/linked").symlink_to(".store")
    Path("in/e.png").symlink_to("c.png")
    assert images("in") == ["c.png", "d/b.png", "e.png", "linked/a.png"]


def test_links_out_of_the_folder_are_followed_where_they_may_lead() -> None:
    touch("in/a.png", "cache/b.png", "private/c.png")
    for name in ("cache", "private"):
        Path(f"in/{name}").symlink_to(Path(name).resolve())
    Path("in/file.png").symlink_to(Path("cache/b.png").resolve())
    assert images("in") == ["a.png"]
    assert images("in", Path("cache")) == ["a.png", "cache/b.png", "file.png"]
    assert images("in", *ANYWHERE) == ["a.png", "cache/b.png", "file.png", "private/c.png"]


def test_a_folder_that_is_a_link_itself_is_the_folder() -> None:
    touch("real/a.png")
    Path("in").symlink_to("real")
    assert images("in") == ["a.png"]


def test_links_in_a_circle_end() -> None:
    touch("in/a/x.png")
    Path("in/a/up").symlink_to("..")
    scan = scan_folder(Path("in"))
    assert scan.images == [Path("in/a/x.png")]
    assert scan.summary() == "passed over: 1 a link back to a folder around it (up)"
    # Each folder links to all others: their orders would be ten times nine times eight ...
    for index in range(10):
        touch(f"many/{index}/x.png")
        for other in range(10):
            Path(f"many/{index}/{other}").symlink_to(f"../{other}")
    assert 10 <= len(scan_folder(Path("many")).images) <= 160


def test_links_to_nothing_and_locked_folders_are_faults(monkeypatch: pytest.MonkeyPatch) -> None:
    touch("in/a.png", "in/locked/b.png")
    Path("in/gone.png").symlink_to("nowhere")
    lock_folders("locked", monkeypatch)
    scan = scan_folder(Path("in"))
    assert scan.images == [Path("in/a.png")]
    assert scan.fault_lines() == [
        "in/gone.png: a link that leads nowhere",
        "in/locked: cannot be searched (Permission denied)",
    ]


def test_a_folder_that_is_none() -> None:
    touch("file")
    with pytest.raises(UserError, match="none: no such folder, expected a folder of images"):
        scan_folder(Path("none"))
    with pytest.raises(UserError, match="file: is a file, expected a folder of images"):
        scan_folder(Path("file"))


def test_names_are_printed_without_control_characters() -> None:
    touch("in/\x1b[31mred.txt", "in/.\x1b]0;title\x07")
    assert scan_folder(Path("in")).summary() == (
        r"passed over: 1 hidden (.\x1b]0;title\x07), 1 not named as images (.txt)"
    )
