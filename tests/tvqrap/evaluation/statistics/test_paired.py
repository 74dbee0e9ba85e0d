"""Paired differences, and two results side by side."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvqrap.comparison.results import compare, read_result
from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.statistics.intervals import Resampling, mean_interval
from tvqrap.evaluation.statistics.paired import Value, paired_difference, verdict
from tvqrap.evaluation.summary import padding, protocol, summarise, write_scores
from tvqrap.runtime.errors import UserError

RESAMPLING = Resampling(400, 0.95, 0)


def test_pairing_tells_apart_what_means_do_not() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(25, 5, 20)
    ours = {str(k): Value(str(k), v + 0.2 + 0.05 * rng.normal()) for k, v in enumerate(base)}
    theirs = {str(k): Value(str(k), v) for k, v in enumerate(base)}
    difference = paired_difference(ours, theirs, RESAMPLING)
    assert difference is not None and difference.low is not None and difference.low > 0
    assert verdict(difference, "higher") == "better"
    assert verdict(difference, "lower") == "worse"
    intervals = [
        mean_interval({k: [v.value] for k, v in values.items()}, RESAMPLING)
        for values in (ours, theirs)
    ]
    assert intervals[1].high and intervals[0].low
    assert intervals[1].high > intervals[0].low  # their own intervals overlap
    same = paired_difference(theirs, theirs, RESAMPLING)
    assert same is not None and verdict(same, "higher") == "not told apart"
    assert paired_difference(ours, {}, RESAMPLING) is None


def write(
    folder: Path,
    shift: float,
    model: str = "rap",
    lost: str = "",
    few: bool = False,
    **changes: Any,
) -> Path:
    rows = [
        ImageScores(
            model,
            f"i{k}",
            f"p{k // 2}" if few else f"p{k}",
            {
                "psnr_y": Score(None, "x") if f"i{k}" == lost else Score(20 + k + shift),
                "piqe": Score(50 + k - shift),
            },
        )
        for k in range(6)
    ]
    about = protocol(
        {"psnr_y": {"options": {}}, "piqe": {"options": {}}},
        RESAMPLING,
        data={"gt": "a" * 64, "lq": "c" * 64, "images": 6},
        models={model: {"kind": "tvqrap", "padding": padding(64), "tiling": None}},
    )
    for key, value in changes.items():
        about[key] = about[key] | value
    write_scores(folder, summarise(rows, {}, RESAMPLING, {}), rows, about)
    return folder / "scores.json"


def test_two_results(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 0), write(tmp_path / "b", 0.5, lost="i3")
    compared = compare(read_result(first), read_result(second.with_name("metrics.json")))
    psnr, piqe = compared.entries
    assert (psnr.model, psnr.metric, psnr.verdict) == ("rap", "psnr_y", "better")
    assert psnr.difference.mean == pytest.approx(0.5) and psnr.difference.images == 5
    assert piqe.difference.mean == pytest.approx(-0.5) and piqe.verdict == "better"
    assert compared.notes == ("rap: psnr_y over 5 of 6 images",)
    other = compare(read_result(first), read_result(write(tmp_path / "c", 1, model="new").parent))
    assert other.entries[0].model == "rap, new" and "A is rap" in other.notes[0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("data", {"gt": "b" * 64}, f"data: gt is {'b' * 12}..., in "),
        ("metrics", {"psnr_y": {"options": {"crop": 4}}}, "psnr_y: options: crop is 4, in "),
        ("metrics", {"psnr_y": {}}, "psnr_y: options is absent, in "),
        ("versions", {"pyiqa": "0"}, "pyiqa is 0, in "),
        (
            "models",
            {"rap": {"kind": "tvqrap", "padding": padding(32), "tiling": None}},
            "padding of rap: multiple is 32",
        ),
        (
            "models",
            {"rap": {"kind": "tvqrap", "padding": padding(64), "tiling": {"tile": 64}}},
            "tiling of rap is {'tile': 64}",
        ),
    ],
)
def test_different_protocols_are_refused(
    tmp_path: Path, key: str, value: dict[str, Any], message: str
) -> None:
    first = read_result(write(tmp_path / "a", 0))
    second = read_result(write(tmp_path / "b", 0, **{key: value}))
    with pytest.raises(UserError, match="different protocols") as error:
        compare(first, second)
    assert message in str(error.value)


def test_few_photographs_tell_nothing_apart(tmp_path: Path) -> None:
    results = [read_result(write(tmp_path / f"{shift}", shift, few=True)) for shift in (0, 9)]
    compared = compare(*results)
    assert {entry.verdict for entry in compared.entries} == {"not told apart"}
    assert compared.notes[-1].startswith("3 photographs, fewer than 5")


def test_other_versions_of_torch_are_a_note(tmp_path: Path) -> None:
    first = read_result(write(tmp_path / "a", 0))
    second = read_result(write(tmp_path / "b", 0, versions={"torch": "0"}))
    assert any(note.startswith("torch: ") for note in compare(first, second).notes)


def model(kind: str, pads: int, tile: int | None) -> dict[str, Any]:
    tiling = tile and {"tile": tile, "overlap": 32, "images": 6}
    return {"kind": kind, "padding": {"multiple": pads}, "tiling": tiling}


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        (model("spandrel HAT", 16, None), model("spandrel HAT", 8, None), "padding of x, y: multi"),
        (model("spandrel HAT", 16, 256), model("spandrel HAT", 16, 128), "tiling of x, y: tile is"),
        (model("spandrel HAT", 16, 256), model("tvqrap", 64, 128), "tiling of x, y: tile is 128"),
        (model("spandrel HAT", 16, 256), model("tvqrap", 64, 256), None),
        ({"kind": "Pillow's bicubic", "tiling": None}, model("tvqrap", 64, 256), None),
    ],
)
def test_padding_and_tiling_are_those_of_the_models_compared(
    tmp_path: Path, a: dict[str, Any], b: dict[str, Any], message: str | None
) -> None:
    first = read_result(write(tmp_path / "a", 0, model="x", models={"x": a}))
    second = read_result(write(tmp_path / "b", 0, model="y", models={"y": b}))
    if message is None:
        assert compare(first, second).entries
        return
    with pytest.raises(UserError, match="different protocols") as error:
        compare(first, second)
    assert message in str(error.value)


def test_finished_images_are_compared_by_what_both_have(tmp_path: Path) -> None:
    first, path = read_result(write(tmp_path / "a", 0)), write(tmp_path / "b", 1, model="done")
    about = json.loads(path.read_text())
    del about["protocol"]["data"]["lq"]
    about["protocol"]["interval"] |= {"samples": 10, "confidence": 0.5}
    path.write_text(json.dumps(about))
    notes = compare(first, read_result(path)).notes
    assert "data: lq in A alone" in notes
    assert "intervals: samples: 400 in A, 10 in B; A's is taken" in notes
    assert "intervals: confidence: 0.95 in A, 0.5 in B; A's is taken" in notes
    about["protocol"]["data"] = {"pairs": "d" * 64, "images": 6}
    path.write_text(json.dumps(about))
    with pytest.raises(UserError, match=r"by pairs, images, those of .* by gt, lq, images"):
        compare(first, read_result(path))


def test_numbers_of_the_set_are_shown_and_nothing_in_common_is_refused(tmp_path: Path) -> None:
    paths = [write(tmp_path / name, 0) for name in "ab"]
    for path, fid in zip(paths, (30.0, 20.5), strict=True):
        about = json.loads(path.read_text())
        about["totals"] = {"rap": {"fid": fid, "code_usage": 0.5}}
        path.write_text(json.dumps(about))
    last = compare(*map(read_result, paths)).entries[-1]
    assert (last.metric, last.first, last.second) == ("fid", 30.0, 20.5)
    assert last.difference is last.verdict is None
    first, second = (replace(read_result(path), totals={}) for path in paths)
    other = tuple(replace(row, scores={"fsim": Score(0.5)}) for row in second.rows)
    with pytest.raises(UserError, match="no score by a metric of"):
        compare(first, replace(second, rows=other))


def test_what_is_no_result_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        read_result(tmp_path)
    (tmp_path / "scores.json").write_text(json.dumps({"protocol": {}}))
    with pytest.raises(UserError, match="not a result of evaluate"):
        read_result(tmp_path / "scores.json")
    first = write(tmp_path / "a", 0)
    second = write(tmp_path / "b", 0)
    table = second.with_name("per_image.csv")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    with pytest.raises(UserError, match="i5 is in one alone"):
        compare(read_result(first), read_result(second))
