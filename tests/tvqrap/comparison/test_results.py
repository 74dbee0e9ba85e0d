"""Two results side by side."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tvqrap.comparison.result_files import read_result
from tvqrap.comparison.results import compare
from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.summary import padding, protocol, summarise, write_scores
from tvqrap.runtime.errors import UserError

PHOTOS = 10


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
        for k in range(PHOTOS)
    ]
    about = protocol(
        {"psnr_y": {"options": {}}, "piqe": {"options": {}}},
        0.95,
        data={"gt": "a" * 64, "lq": "c" * 64, "images": PHOTOS},
        models={model: {"kind": "tvqrap", "padding": padding(64), "tiling": None}},
    )
    for key, value in changes.items():
        about[key] = about[key] | value
    write_scores(folder, summarise(rows, {}, 0.95, {}), rows, about)
    return folder / "scores.json"


def test_two_results(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 0), write(tmp_path / "b", 0.5, lost="i3")
    compared = compare(read_result(first), read_result(second.with_name("metrics.json")))
    psnr, piqe = compared.entries
    assert (psnr.model, psnr.metric) == ("rap", "psnr_y")
    assert psnr.verdict == "not told apart"  # over 9 photographs
    assert psnr.difference.mean == pytest.approx(0.5) and psnr.difference.images == 9
    assert piqe.difference.mean == pytest.approx(-0.5) and piqe.verdict == "better"
    assert compared.notes[:1] == ("rap: psnr_y over 9 of 10 images",)
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
            "tiling of rap is {'tile': 64, 'overlap': None}",
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


def test_few_photographs_give_no_verdicts(tmp_path: Path) -> None:
    results = [read_result(write(tmp_path / f"{shift}", shift, few=True)) for shift in (0, 9)]
    compared = compare(*results)
    assert {entry.verdict for entry in compared.entries} == {"not told apart"}
    assert compared.notes[-1] == "5 photographs, fewer than 10: no verdicts"


def test_other_versions_of_torch_are_a_note(tmp_path: Path) -> None:
    first = read_result(write(tmp_path / "a", 0))
    second = read_result(write(tmp_path / "b", 0, versions={"torch": "0"}))
    assert any(note.startswith("torch: ") for note in compare(first, second).notes)


def model(kind: str, pads: int, tile: int | None) -> dict[str, Any]:
    tiling = tile and {"tile": tile, "overlap": 32, "images": PHOTOS}
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
def test_padding_and_tiling_of_the_compared_models_are_checked(
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


def test_finished_images_are_compared_by_common_data(tmp_path: Path) -> None:
    first, path = read_result(write(tmp_path / "a", 0)), write(tmp_path / "b", 1, model="done")
    about = json.loads(path.read_text())
    del about["protocol"]["data"]["lq"]
    about["protocol"]["interval"] = {"method": "x", "confidence": 0.5, "samples": 9, "seed": 0}
    path.write_text(json.dumps(about))
    notes = compare(first, read_result(path)).notes
    assert "data: lq in A alone" in notes
    assert "confidence: 0.95 in A, 0.5 in B; that of A is used" in notes
    about["protocol"]["data"] = {"pairs": "d" * 64, "images": PHOTOS}
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


def test_files_that_are_no_results_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not found"):
        read_result(tmp_path)
    (tmp_path / "scores.json").write_text(json.dumps({"protocol": {}}))
    with pytest.raises(UserError, match="protocol: metrics is missing"):
        read_result(tmp_path / "scores.json")
    first = write(tmp_path / "a", 0)
    second = write(tmp_path / "b", 0)
    whole = read_result(second)
    with pytest.raises(UserError, match="i9 is in one alone"):
        compare(read_result(first), replace(whole, rows=whole.rows[:-1]))
    table = second.with_name("per_image.csv")
    table.write_text("".join(table.read_text().splitlines(keepends=True)[:-1]))
    assert "psnr_y of rap is 24 over 9 images, in " in refusal(second)


@pytest.mark.parametrize(
    ("shift", "model", "message"),
    [
        (1.0, "rap", "psnr_y of rap is 25.5 over 10 images, in "),
        (0.0, "other", "has other, "),
    ],
)
def test_files_of_two_evaluations_are_refused(
    tmp_path: Path, shift: float, model: str, message: str
) -> None:
    """As where scores.json was kept under another name beside the result of a later run."""
    kept = write(tmp_path, 0).rename(tmp_path / "before.json")
    write(tmp_path, shift, model=model)
    assert refusal(kept).startswith(f"{tmp_path / 'per_image.csv'}: ") and message in refusal(kept)
    read_result(tmp_path)


def refusal(path: Path) -> str:
    with pytest.raises(UserError) as caught:
        read_result(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1 and len(message) < 400
    return message


def changed(key: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(document: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            document = document[parent]
        document[last] = value

    return change


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("protocol.interval.confidence", 5, "interval: confidence is 5, expected less than 1"),
        ("protocol.interval.confidence", "0.95", "interval: confidence is '0.95', expected"),
        ("protocol.metrics", [], "protocol: metrics is [], expected"),
        ("protocol.data", [1], "protocol: data is [1], expected"),
        ("protocol.models.rap", 3, "models: rap is 3, expected"),
        ("protocol.models.rap.tiling", {"tile": "x"}, "tiling: tile is 'x', expected"),
        ("protocol.models.rap.padding", "much", "padding is 'much', expected"),
        ("protocol.versions", {"torch": 2}, "versions: torch is 2, expected"),
        ("totals", {"rap": {"fid": "low"}}, "totals: rap: fid is 'low', expected"),
        ("totals", {"rap": {"fid": float("nan")}}, "not readable as JSON"),
        ("scores.rap.psnr_y.mean", None, "psnr_y: mean is None, expected"),
        ("failures", [{"model": "rap"}], "failures: 0: image is missing"),
        ("notes", {}, "notes is {}, expected"),
        ("more", 1, "more is not known"),
    ],
)
def test_a_wrong_value_of_the_scores_is_named(
    tmp_path: Path, key: str, value: Any, message: str
) -> None:
    path = write(tmp_path, 0)
    document = json.loads(path.read_text())
    changed(key, value)(document)
    path.write_text(json.dumps(document))
    assert refusal(path).startswith(f"{path}: ") and message in refusal(path)


@pytest.mark.parametrize("text", ["", "[", "[]", "[" * 100_000, '{"protocol": ' + "[" * 3000])
def test_scores_that_are_no_document_are_one_line(tmp_path: Path, text: str) -> None:
    path = write(tmp_path, 0)
    path.write_text(text)
    assert refusal(path).startswith(f"{path}: ")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("rap,p3,i3,", "rap,p3\n", "line 5: found 2 cells, expected 6"),
        ("rap,p3,i3,", "rap,p3,i3,,", "line 5: found 7 cells, expected 6"),
        ("rap,p3,i3,23.0000", "rap,p3,i3,nan", "line 5: psnr_y is 'nan', expected a finite number"),
        ("rap,p3,i3,23.0000", "rap,p3,i3,1e999", "line 5: psnr_y is '1e999', expected"),
        ("rap,p3,i3,23.0000", "rap,p3,i3,1e300", "line 5: psnr_y is '1e300', expected"),
        ("rap,p3,i3,23.0000", "rap,p3,i3,good", "line 5: psnr_y is 'good', expected"),
        ("rap,p3,i3,", "rap,p2,i2,", "i2 by rap is there twice"),
        ("model,photo,", "models,photo,", "found 0 columns model, expected one"),
        ("rap,p3,i3,", '"rap,p3,i3,', "cannot be read as CSV"),
    ],
)
def test_a_wrong_line_of_the_table_is_named(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    path = write(tmp_path, 0)
    table = path.with_name("per_image.csv")
    assert old in table.read_text()
    table.write_text(table.read_text().replace(old, new))
    assert refusal(path).startswith(f"{table}: ") and message in refusal(path)


def test_names_that_spreadsheets_take_for_formulas_come_back(tmp_path: Path) -> None:
    first, second = write(tmp_path / "a", 0, model="=x"), write(tmp_path / "b", 1, model="=x")
    assert read_result(first).models == ["=x"]
    assert {entry.model for entry in compare(*map(read_result, (first, second))).entries} == {"=x"}
