"""The page in a browser: it renders, the line moves, nothing is asked of any network."""

from pathlib import Path

import pytest

from tests.support.scores import case, run
from tvqrap.evaluation.report.page import Page, write_report

NASTY = "</script><b id=nasty>'\"&"


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    results = run(folder / "images", [case(name, k) for k, name in enumerate(["a", "b", NASTY])])
    summary = results.summary()
    about = results.protocol(data={}, models={})
    results.write(folder, summary, about)
    write_report(folder / "report.html", Page("Test", "three", "ours"), results, summary, about)
    return folder / "report.html"


@pytest.fixture
def page(browser, report: Path):  # type: ignore[no-untyped-def]  # playwright may be missing
    said: list[str] = []
    asked: list[str] = []
    opened = browser.new_page(viewport={"width": 1200, "height": 900})
    opened.on("console", lambda message: said.append(message.text))
    opened.on("pageerror", lambda error: said.append(str(error)))
    opened.on("request", lambda request: asked.append(request.url))
    opened.goto(report.as_uri())
    yield opened
    assert said == []
    assert [url for url in asked if not url.startswith(("data:", "file:"))] == []
    assert sum(url.startswith("file:") for url in asked) == 1
    opened.close()


def split(page) -> int:  # type: ignore[no-untyped-def]
    return int(page.get_attribute(".divider", "aria-valuenow"))


def test_it_renders(page) -> None:  # type: ignore[no-untyped-def]
    assert page.locator("tbody tr").count() == 3
    assert page.locator("svg").count() == 2
    assert page.locator("#panels .panel").count() == 5
    assert page.inner_text(".left-name") == "bicubic" and page.inner_text(".right-name") == "ours"
    sizes = page.evaluate(
        "[...document.querySelectorAll('.stage .whole, .panel img')].map((i) => i.naturalWidth)"
    )
    assert len(sizes) == 7 and all(size > 0 for size in sizes)
    assert page.locator("#nasty").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_the_line_moves(page) -> None:  # type: ignore[no-untyped-def]
    box = page.locator("#stage").bounding_box()
    assert split(page) == 50
    page.mouse.move(box["x"] + box["width"] / 2, box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] / 4, box["y"] + 60)
    page.mouse.up()
    assert split(page) == 25
    clip = "getComputedStyle(document.querySelector('.layer.right')).clipPath"
    assert "inset(0px 0px 0px 25%)" in page.evaluate(clip)
    page.keyboard.press("ArrowRight")
    assert split(page) == 27
    page.keyboard.press("End")
    assert split(page) == 100


def test_zoom_is_the_same_everywhere(page) -> None:  # type: ignore[no-untyped-def]
    def scales() -> list[float]:
        found: list[float] = page.evaluate(
            "[...document.querySelectorAll('.stage .whole, .panel img')].map((i) =>"
            " i.getBoundingClientRect().width / i.closest('.stage, .window').clientWidth)"
        )
        return found

    assert scales() == pytest.approx([1] * 7, rel=0.01)
    page.locator(".divider").focus()
    for _ in range(4):
        page.keyboard.press("+")
    assert scales() == pytest.approx([1.25**4] * 7, rel=0.01)
    box = page.locator("#stage").bounding_box()
    page.mouse.move(box["x"] + 20, box["y"] + 20)
    page.mouse.wheel(0, -200)
    assert min(scales()) > 1.25**4
    before = page.evaluate("document.querySelector('.layer.left img').style.left")
    page.mouse.down()
    page.mouse.move(box["x"] + 90, box["y"] + 60)
    page.mouse.up()
    assert page.evaluate("document.querySelector('.layer.left img').style.left") != before
    page.keyboard.press("0")
    assert scales() == pytest.approx([1] * 7, rel=0.01)


def test_keys_choose_pictures_and_images(page) -> None:  # type: ignore[no-untyped-def]
    page.locator(".divider").focus()
    page.keyboard.press("5")
    page.keyboard.press("Shift+Digit1")
    assert page.inner_text(".right-name") == "HR" and page.inner_text(".left-name") == "LR"
    first = page.inner_text("#caption")
    page.keyboard.press("ArrowDown")
    assert page.inner_text("#caption") != first
    page.keyboard.press("ArrowUp")
    assert page.inner_text("#caption") == first
    page.get_by_role("button", name="GMSD").click()
    assert "GMSD" in page.inner_text("#caption") and "PSNR" not in page.inner_text("#caption")
    page.locator("#panels .panel").nth(2).click()
    assert page.inner_text(".right-name") == "theirs"


def test_dark_and_narrow(page) -> None:  # type: ignore[no-untyped-def]
    colour = "getComputedStyle(document.body).backgroundColor"
    light = page.evaluate(colour)
    page.emulate_media(color_scheme="dark")
    assert page.evaluate(colour) != light
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
