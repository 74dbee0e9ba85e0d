"""The report: its content, escaping and size."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from tests.support.scores import case, photo, run
from tvqrap.evaluation.cases import Case, ImageScores
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.report.embedding import LARGEST_SIDE, embed
from tvqrap.evaluation.report.page import Page, write_report
from tvqrap.evaluation.report.selection import pick_images
from tvqrap.evaluation.statistics.distributions import GRID, distribution

NASTY = "</script><img src=x onerror=alert(1)>&\"'"


def page_of(tmp_path: Path, cases: list[Case], budget: int = 10**7) -> str:
    results = run(tmp_path / "images", cases)
    summary = results.summary()
    about = results.protocol(data={"gt": NASTY}, models={})
    results.write(tmp_path / "out", summary, about)
    path = tmp_path / "report.html"
    write_report(path, Page(f"Test {NASTY}", NASTY, "ours"), results, summary, about, budget)
    return path.read_text()


def viewer_of(text: str) -> dict[str, object]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    viewer: dict[str, object] = json.loads(found[1])
    return viewer


def test_it_holds_scores_distributions_and_pictures(tmp_path: Path) -> None:
    text = page_of(tmp_path, [case(f"photo {k}", k) for k in range(5)])
    assert "fewer than 5" not in text
    assert text.count("<svg") == 2 and 'class="best"' in text and "not told apart" in text
    images = viewer_of(text)["images"]
    assert isinstance(images, list)
    names = [cell["name"] for cell in images[0]["cells"]]
    assert names == ["LR", "bicubic", "theirs", "ours", "HR"]
    assert images[0]["reasons"][0] == ["psnr_y", "worst"] and images[0]["name"] == "photo 0"
    assert all(cell["uri"].startswith("data:image/webp") for cell in images[0]["cells"])
    assert images[0]["cells"][3]["scores"]["psnr_y"] > 10
    assert "http" not in re.sub(r"data:image/webp;base64,[^\"]*", "", text).replace(
        "http-equiv", ""
    )


def test_names_are_escaped(tmp_path: Path) -> None:
    text = page_of(tmp_path, [case(NASTY, 1), case("other", 2)])
    assert "<img src=x" not in text and text.count("</script>") == 2
    images = viewer_of(text)["images"]
    assert isinstance(images, list) and NASTY in {image["name"] for image in images}


def test_its_size_is_bounded(tmp_path: Path) -> None:
    cases = [case(f"{k}", k) for k in range(6)]
    plain = viewer_of(page_of(tmp_path / "a", cases))["images"]
    small = page_of(tmp_path / "b", cases, budget=20_000)
    fewer = viewer_of(small)["images"]
    assert isinstance(plain, list) and isinstance(fewer, list)
    assert 0 < len(fewer) < len(plain)
    assert sum(len(cell["uri"]) for image in fewer for cell in image["cells"]) <= 20_000
    assert "compressed (WebP)" in small and "Left out to limit the size: " in small


def test_failures_are_listed(tmp_path: Path) -> None:
    whole = case("a", 1)
    broken = Case("b", "b", whole.hr, whole.lr, {**whole.made, "ours": "ran out of <memory>"})
    text = page_of(tmp_path, [whole, broken])
    assert "ours: b: ran out of &lt;memory&gt; (psnr_y, gmsd)" in text and "1 of 2 images" in text
    lost = Case("c", "c", whole.hr, whole.lr, {**whole.made, "ours": "gave nan"})
    text = page_of(tmp_path / "all", [lost])
    assert text.count('<span class="lost">failed</span>') == 2 and ">–<" not in text


def test_few_photographs_give_no_verdicts(tmp_path: Path) -> None:
    text = page_of(tmp_path, [case("a", 5)])
    assert "1 photograph, fewer than 5: no intervals and no verdicts" in text
    assert text.count('class="best"') == 2 and text.count('class="level"') == 4
    assert " – " not in text.partition("</table>")[0].partition("<tbody>")[2]


def test_large_images_are_cut_to_their_detail() -> None:
    hr = np.full((1400, 1000, 3), 90, dtype=np.uint8)
    hr[800:1200, 500:900] = photo(3, 400)
    pictures = {"LR": np.ascontiguousarray(hr[::4, ::4]), "ours": hr, "HR": hr}
    (embedded,), lossy = embed([pictures], 10**7)
    assert not lossy and embedded.size == (LARGEST_SIDE, LARGEST_SIDE)
    assert embedded.box is not None
    left, top, right, bottom = embedded.box
    assert left % 4 == top % 4 == 0
    assert left <= 500 and top <= 800 and right >= 900 and bottom >= 1200


@pytest.mark.parametrize("side", [40, LARGEST_SIDE + 40])
def test_pictures_of_other_sizes_are_left_out(side: int) -> None:
    pictures = {
        "LR": np.zeros((200, 20, 3), np.uint8),
        "LR, bicubic": np.zeros((800, 80, 3), np.uint8),
        "HR": photo(1, side),
    }
    (shown,), _ = embed([pictures], 10**6)
    assert list(shown.uris) == ["HR"] and shown.size == (min(side, LARGEST_SIDE),) * 2


def test_picks_are_worst_best_and_median() -> None:
    def row(image: str, value: float | None) -> ImageScores:
        scores = {"psnr_y": Score(value), "piqe": Score(value), "fsim": Score(None, "x")}
        return ImageScores("ours", image, image, scores)

    rows = [row(name, value) for name, value in zip("abcde", [3, 1, None, 5, 4], strict=True)]
    picked = pick_images(rows, "ours", ["psnr_y", "piqe", "fsim"], 4)
    assert {pick.image: pick.reasons for pick in picked.picks} == {
        "b": (("psnr_y", "worst"), ("piqe", "best")),
        "d": (("piqe", "worst"), ("psnr_y", "best")),
        "e": (("psnr_y", "median"),),
        "a": (("piqe", "median"),),
    }
    assert picked.left_out == ()
    few = pick_images(rows, "ours", ["psnr_y", "piqe"], 2)
    assert [pick.image for pick in few.picks] == ["b", "d"]
    assert few.left_out == (("psnr_y", "median"), ("piqe", "median"))
    assert few.first(1).left_out == (*few.left_out, ("piqe", "worst"), ("psnr_y", "best"))
    none = pick_images(rows, "ours", ["fsim"], 2)
    assert [pick.image for pick in none.picks] == ["a", "b"] and none.left_out == ()


def test_outlines_are_densities_on_one_axis() -> None:
    found = distribution({"a": [1.0, 2.0, 3.0], "b": [2.0] * 200, "none": []})
    assert found is not None and list(found.outlines) == ["a", "b"]
    assert found.low < 1 and found.high > 3
    a, b = found.outlines["a"], found.outlines["b"]
    assert len(a.density) == GRID and max(b.density) == 1 > max(a.density)
    assert a.quartiles[1] == pytest.approx(0.5, abs=1e-3)
    assert len(a.dots) == 3 and b.dots == ()
    assert distribution({"a": []}) is None
    assert distribution({"a": [7.0]}) is not None
