"""Paired differences, and two results side by side."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tvqrap.errors import UserError
from tvqrap.evaluation.bootstrap import Resampling, mean_interval
from tvqrap.evaluation.compared_results import compare, read_result
from tvqrap.evaluation.comparison import Value, paired_difference, verdict
from tvqrap.evaluation.metrics import Score
from tvqrap.evaluation.scores import padding, protocol, summarise, write_scores
from tvqrap.evaluation.scoring import ImageScores

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
        data={"gt": "abc"},
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
        ("data", {"gt": "other"}, 'data is {"gt": "other"}'),
        ("metrics", {"psnr_y": {"options": {"crop": 4}}}, "psnr_y is"),
        ("versions", {"pyiqa": "0"}, 'pyiqa is "0"'),
        (
            "models",
            {"rap": {"kind": "tvqrap", "padding": padding(32), "tiling": None}},
            "padding of rap",
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


def test_other_versions_of_torch_are_a_note(tmp_path: Path) -> None:
    first = read_result(write(tmp_path / "a", 0))
    second = read_result(write(tmp_path / "b", 0, versions={"torch": "0"}))
    assert any(note.startswith("torch: ") for note in compare(first, second).notes)


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
