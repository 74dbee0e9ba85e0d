"""The page of `tvqrap-cli ui` in a browser: from a photograph to the download."""

import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import uvicorn

from tests.support.ui import load
from tests.support.upscaling import image, opened
from tvqrap.pretrained.models import find_model
from tvqrap.ui.app import make_app
from tvqrap.ui.work import Work


@pytest.fixture
def address(tmp_path: Path, tiny_model: Path) -> Iterator[str]:
    (tmp_path / "files").mkdir()
    listening = socket.create_server(("127.0.0.1", 0))
    host = f"127.0.0.1:{listening.getsockname()[1]}"
    work = Work(tmp_path / "files", load)
    app = make_app(work, [("tiny", find_model(tiny_model))], [host])
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off"))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    work.start()
    thread.start()
    yield f"http://{host}/"
    server.should_exit = True
    thread.join(30)
    assert work.close(30)


@pytest.fixture
def page(browser: Any, address: str) -> Iterator[Any]:
    said: list[str] = []
    asked: list[str] = []
    opened_page = browser.new_page(viewport={"width": 1280, "height": 800})
    opened_page.on("pageerror", lambda error: said.append(str(error)))
    opened_page.on("console", lambda message: said.append(message.text))
    opened_page.on("request", lambda request: asked.append(request.url))
    opened_page.goto(address)
    yield opened_page
    opened_page.close()
    # A refused photograph is an answer of 422, which Chromium reports.
    assert [line for line in said if "422" not in line] == []
    assert [url for url in asked if not url.startswith((address, "blob:", "data:"))] == []


def test_from_a_photograph_to_the_download(page: Any, tmp_path: Path) -> None:
    nasty = image(tmp_path / "<b id=nasty>.png", 30, 20)
    (tmp_path / "none.png").write_text("no image")
    page.select_option("[name=mode]", "fit")
    page.fill("[name=width]", "90")
    page.fill("[name=height]", "90")
    page.select_option("[name=format]", "webp")
    page.check("[name=lossless]")
    assert not page.is_visible("[name=quality]")
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose photographs").click()
    chooser.value.set_files([nasty, tmp_path / "none.png"])
    page.locator("#queue li.done").wait_for()
    assert "none.png: not an image of a known format" in page.inner_text("#errors")
    page.get_by_role("button", name="Dismiss").click()
    assert page.locator("#errors li").count() == 0
    assert page.inner_text("#said") == "<b id=nasty>.png is upscaled"
    assert page.locator("#nasty").count() == 0
    assert "90×60" in page.inner_text("#title")

    widths = page.evaluate(
        "Promise.all([...document.querySelectorAll('.whole')].map((i) => i.decode()))"
        ".then(() => [...document.querySelectorAll('.whole')].map((i) => i.naturalWidth))"
    )
    assert widths == [90, 90]
    page.get_by_role("slider", name="Divider").focus()
    page.keyboard.press("Home")
    assert page.get_attribute(".divider", "aria-valuenow") == "0"
    page.get_by_role("button", name="Zoom in").click()
    assert page.evaluate("document.querySelector('.whole').clientWidth > stage.clientWidth")
    page.get_by_role("button", name="Fit the picture").click()

    with page.expect_download() as download:
        page.get_by_role("link", name="Download", exact=True).click()
    assert download.value.suggested_filename == "_b id=nasty__90x90.webp"
    download.value.save_as(tmp_path / "large.webp")
    assert opened(tmp_path / "large.webp").size == (90, 60)

    page.get_by_role("button", name="Upscale again").click()
    page.locator("#queue li.done").nth(1).wait_for()
    assert page.is_visible("#all")
    page.locator("#queue li").nth(1).get_by_role("button", name="Remove").click()
    page.locator("#queue li").nth(0).get_by_role("button", name="Remove").click()
    page.get_by_text("Drop photographs or a folder here").wait_for()
    assert list((tmp_path / "files").iterdir()) == []


def test_folders_dropping_and_a_narrow_screen(page: Any, tmp_path: Path) -> None:
    for name in ("album/a.png", "album/deep/b.png"):
        image(tmp_path / name, 8, 8)
    (tmp_path / "album/notes.txt").write_text("no image")
    page.set_viewport_size({"width": 390, "height": 800})
    with page.expect_file_chooser() as chooser:
        page.get_by_role("button", name="Choose a folder").click()
    chooser.value.set_files(tmp_path / "album")
    page.locator("#queue li.done").nth(1).wait_for()
    names = [name.strip() for name in page.locator("#queue b").all_inner_texts()]
    assert sorted(names) == ["album/a.png", "album/deep/b.png"]
    assert page.locator("#errors li").count() == 0
    page.evaluate(
        """async () => {
            const answer = await fetch(document.querySelector('.whole').src);
            const dropped = new DataTransfer();
            dropped.items.add(new File([await answer.blob()], 'dropped.png'));
            dispatchEvent(new DragEvent('drop', { dataTransfer: dropped, cancelable: true }));
        }"""
    )
    page.locator("#queue li.done").nth(2).wait_for()
    assert "dropped.png" in page.inner_text("#queue")
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    page.emulate_media(color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") != light
    # Everything that can be clicked has a name for screen readers.
    unnamed = page.evaluate(
        """[...document.querySelectorAll('button, a, input, select')].filter((control) =>
            control.offsetParent && !control.textContent.trim() && !control.ariaLabel
            && !(control.labels && control.labels.length)).length"""
    )
    assert unnamed == 0
