"""From cases to files: means, failures, table."""

import csv
import io
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console

from tvqrap.evaluation import cases as scoring
from tvqrap.evaluation.cases import Case, ImageScores, PendingCase, score_cases
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.report.curves import write_score_curves
from tvqrap.evaluation.report.failures import failure_lines
from tvqrap.evaluation.report.table import score_table
from tvqrap.evaluation.summary import Failure, protocol, summarise, unescaped, write_scores

CONFIDENCE = 0.95


def rows() -> list[ImageScores]:
    def row(model: str, image: str, psnr: float | None, piqe: float) -> ImageScores:
        score = Score(psnr, "" if psnr is not None else "gave nan")
        return ImageScores(model, image, image[0], {"psnr_y": score, "piqe": Score(piqe)})

    return [
        row("bicubic", "a0", 20.0, 80.0),
        row("rap", "a0", 22.0, 40.0),
        row("bicubic", "a1", 24.0, 90.0),
        row("rap", "a1", None, 50.0),
        row("bicubic", "b0", 30.0, 70.0),
        row("rap", "b0", 30.123, 60.0),
    ]


def test_files_say_what_was_scored_and_what_failed(tmp_path: Path) -> None:
    scored = rows()
    summary = summarise(scored, {"rap": {"code_usage": Score(0.5)}}, CONFIDENCE, {})
    metrics = Scorer(["psnr_y"]).protocol()
    about = protocol(metrics, CONFIDENCE, data={"set": "test"}, models={})
    write_scores(tmp_path, summary, scored, about)
    assert json.loads((tmp_path / "metrics.json").read_text()) == {
        "bicubic": {"psnr_y": 26.0, "piqe": 77.5},
        "rap": {"psnr_y": 26.06, "piqe": 52.5},
    }
    details = json.loads((tmp_path / "scores.json").read_text())
    assert details["totals"] == {"rap": {"code_usage": 0.5}}
    assert details["failures"] == [
        {"model": "rap", "image": "a1", "metric": "psnr_y", "reason": "gave nan"}
    ]
    assert details["scores"]["rap"]["psnr_y"]["images"] == 2
    assert details["protocol"]["metrics"]["psnr_y"]["options"] == {
        "test_y_channel": True,
        "color_space": "ycbcr",
    }
    assert {"pyiqa", "torch", "pillow"} <= details["protocol"]["versions"].keys()
    about = protocol({"fid": {}, "maniqa": {}}, CONFIDENCE, data={}, models={})
    assert {"torchvision", "timm"} <= about["versions"].keys()
    assert details["protocol"]["interval"]["method"] == "Student's t over photographs"
    with (tmp_path / "per_image.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 6 and lines[3]["failed"] == "psnr_y: gave nan" and not lines[3]["psnr_y"]


@pytest.mark.parametrize(
    "name", ["=1+1", "+a", "-b", "@c", "\tx", "'=d", "''@", "'plain", "a=b", ""]
)
def test_names_are_no_formulas_in_a_spreadsheet(tmp_path: Path, name: str) -> None:
    row = ImageScores(name, name, name, {"psnr_y": Score(None, name)})
    write_scores(tmp_path, summarise([row], {}, CONFIDENCE, {}), [row], {})
    with (tmp_path / "per_image.csv").open(newline="") as file:
        (line,) = csv.DictReader(file)
    for cell in (line["model"], line["photo"], line["image"], line["failed"]):
        assert not cell.startswith(("=", "+", "-", "@", "\t"))
    assert unescaped(line["model"]) == unescaped(line["image"]) == name


def test_failures_are_grouped_by_reason() -> None:
    lost = [Failure("rap", f"i{k}", name, "is torn") for k in range(5) for name in "abcd"]
    lost += [Failure("rap", "", "fid", "4 of 5 images")]
    assert failure_lines(lost, 2, "scores.json") == [
        "rap: i0: is torn (4 metrics)",
        "rap: i1: is torn (4 metrics)",
        "and 4 more, in scores.json",
    ]
    assert failure_lines(lost[-1:], 2, "x") == ["rap: the whole set: 4 of 5 images (fid)"]


def test_curves_of_scores_are_small_tables(tmp_path: Path) -> None:
    summary = summarise(rows(), {"rap": {"fid": Score(1.0)}}, CONFIDENCE, {})
    write_score_curves(tmp_path, summary, rows())
    assert sorted(path.name for path in tmp_path.iterdir()) == ["piqe.tsv", "psnr_y.tsv"]
    lines = [line.split("\t") for line in (tmp_path / "psnr_y.tsv").read_text().splitlines()]
    assert lines[0] == ["percent", "bicubic", "rap"] and len(lines) == 22
    assert lines[1] == ["0", "20", "22"] and lines[11] == ["50", "24", "26.0615"]
    assert lines[-1] == ["100", "30", "30.123"]


def test_a_metric_that_never_worked_is_null(tmp_path: Path) -> None:
    scored = [
        ImageScores("rap", name, name, {"fsim": Score(None, "not installed")}) for name in "ab"
    ]
    summary = summarise(scored, {}, CONFIDENCE, {"fsim": "not installed"})
    assert summary.failures == () and summary.lost == 1
    write_scores(tmp_path, summary, scored, {})
    details = json.loads((tmp_path / "scores.json").read_text())
    assert details["missing"] == {"fsim": "not installed"}
    assert json.loads((tmp_path / "metrics.json").read_text()) == {"rap": {"fsim": None}}


def test_the_table_marks_the_best_and_fits_a_terminal() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    summary = summarise(rows(), {}, CONFIDENCE, {})
    console.print(score_table(summary, "Test set"))
    text = console.export_text()
    assert "52.50 *" in text and "2 of 3 images" in text
    assert "…" not in text and "2 photographs, fewer than 5" in text
    # Its mean is one of other images.
    assert "26.06" in text and "26.06 *" not in text
    unmarked = score_table(summary, "Test set", ceiling="rap")
    console.print(unmarked)
    assert "*" not in console.export_text()


@pytest.mark.parametrize("count", [4, 9])
def test_no_number_is_broken_however_many_models(count: int) -> None:
    names = [f"[bold]{'a-long-name' * (k % 3)}{k}" for k in range(count)]
    scored = [
        ImageScores(name, f"i{k}", f"p{k}", {"psnr_y": Score(20.5 + k), "fsim": Score(0.1234 + k)})
        for name in names
        for k in range(6)
    ]
    summary = summarise(scored, {}, CONFIDENCE, {})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(score_table(summary, "[red]Test"))
    text = console.export_text()
    interval = summary.intervals[names[0]]["fsim"].shown(4, "–")
    assert interval is not None and text.count(interval) == count
    assert text.count("[bold]") == count and "[red]Test" in text
    assert max(map(len, text.splitlines())) <= 80 and "…" not in text


def test_no_number_is_cut_at_any_width() -> None:
    scored = [
        ImageScores(name, f"i{k}", f"p{k}", {"psnr_y": Score(20.5 + k), "piqe": Score(80.0 + k)})
        for name in ("bicubic", "tokenizer", "predictor", "rap")
        for k in range(6)
    ]
    summary = summarise(scored, {}, CONFIDENCE, {})
    shown = [summary.intervals["rap"][name].shown(2, "–") for name in ("psnr_y", "piqe")]
    for width in range(40, 121):
        console = Console(width=width, record=True, file=io.StringIO())
        console.print(score_table(summary, "Test set"))
        text = console.export_text()
        assert [text.count(interval or "") for interval in shown] == [4, 4], width
        if width == 80:
            assert text.count("PSNR-Y") == 1  # the four stand side by side


def test_a_number_of_the_whole_set_that_failed_is_listed() -> None:
    summary = summarise(rows(), {"rap": {"fid": Score(None, "2 of 3 images")}}, CONFIDENCE, {})
    assert summary.mean("rap", "fid") is None
    last = summary.failures[-1]
    assert (last.model, last.image, last.metric, last.reason) == ("rap", "", "fid", "2 of 3 images")


def test_large_images_are_scored_by_fewer_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    hr = np.zeros((32, 32, 3), dtype=np.uint8)
    lock, inside, most = threading.Lock(), [0], [0]
    scorer = Scorer([])

    def reference(pixels: np.ndarray) -> None:
        with lock:
            inside[0] += 1
            most[0] = max(most[0], inside[0])
        time.sleep(0.01)
        with lock:
            inside[0] -= 1

    monkeypatch.setattr(scorer, "reference", reference)
    monkeypatch.setattr(scorer, "score", lambda *arguments: {})
    for room, expected in ((100, 1), (2 * 32 * 32, 2)):
        monkeypatch.setattr(scoring, "pixels_at_once", lambda room=room: room)
        most[0] = 0
        cases = [
            PendingCase(str(k), lambda k=k: Case(str(k), str(k), hr, None, {"x": hr}))  # type: ignore[misc]
            for k in range(9)
        ]
        found = list(score_cases(cases, scorer, 4))
        assert sorted(scored.case.image for scored in found) == [str(k) for k in range(9)]
        assert 1 <= most[0] <= expected


def test_images_that_wait_are_bounded() -> None:
    hr = np.zeros((32, 32, 3), dtype=np.uint8)
    begun = []

    def cases() -> Iterator[PendingCase]:
        for k in range(12):
            begun.append(k)
            yield PendingCase(str(k), lambda k=k: Case(str(k), str(k), hr, None, {}))  # type: ignore[misc]

    found = score_cases(cases(), Scorer([]), 2)
    for seen, _ in enumerate(found, start=1):
        assert len(begun) <= seen + 2 + 1
    assert len(begun) == 12


@pytest.mark.parametrize("workers", [1, 3])
def test_scores_do_not_depend_on_the_workers(workers: int) -> None:
    hr = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)

    def make(index: int) -> Case:
        made = {"rap": hr // (index + 1), "broken": "gave nan"}
        return Case(str(index), str(index), hr, None, made, {"rap": {"code_accuracy": 0.5}})

    scorer = Scorer(["psnr_y"])
    pending = [PendingCase(str(k), lambda k=k: make(k)) for k in range(7)]  # type: ignore[misc]
    found = sorted(score_cases(pending, scorer, workers), key=lambda scored: scored.case.image)
    assert [scored.case.image for scored in found] == [str(k) for k in range(7)]
    values = [scored.rows[0].scores["psnr_y"].value for scored in found]
    assert values == sorted(values, key=lambda v: -(v or 0))
    assert found[0].rows[0].scores["code_accuracy"] == Score(0.5)
    assert found[0].rows[1].scores["psnr_y"] == Score(None, "gave nan")
