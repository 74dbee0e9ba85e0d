"""Tables and charts of a recipe's results."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from stages.experiments.__main__ import main
from stages.experiments.chart import axis_labels, draw_chart
from stages.experiments.collect import collect
from stages.experiments.recipe import load_recipe, runs_of
from stages.experiments.results import (
    SCORES,
    Keys,
    other_inputs,
    store_result,
)
from stages.experiments.table import filled, markdown_table
from tests.support.experiments import SMALL, keep, scores_file, scores_of_models, small
from tvqrap.runtime.errors import UserError


def test_a_table_shows_means_intervals_and_what_is_missing(checkout: Path, tmp_path: Path) -> None:
    recipe, runs = small()
    keys = Keys(recipe.target)
    for run in runs:
        if run.point == "wide":
            keep(keys.key(run), tmp_path, psnr_y=19.0 + run.seed, stlpips_vgg=0.5)
    keep(keys.key(runs[1]), tmp_path, psnr_y=18.0)  # narrow, one seed, one score
    table = markdown_table(collect(recipe, runs), "small")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in table.splitlines()[:4]]
    assert rows[0] == [
        "point",
        "`codebook`",
        "`structure`",
        "codes, bytes (stored)",
        "structure, bytes",
        "tokenizer, parameters",
        "PSNR-Y ↑",
        "ST-LPIPS vgg ↓",
    ]
    # 64x64 test images: 16x16 codes of 5 bits; 4x4 structure of 8 channels.
    assert rows[2][:5] == ["wide", "32", "16", "160 (512)", "256"]
    assert rows[2][6:] == ["21.00 ± 2.48", "0.5000 ± 0.0000"]
    assert rows[3][:5] == ["narrow", "16", "none", "128 (512)", "0"]
    assert rows[3][6:] == ["18.00", "–"]
    assert "**2 of 6 runs are missing**: narrow (seeds 2, 3)." in table
    assert "(those with a result; none for a single one)" in table
    assert "12 test images of 64x64" in table
    assert keys.key(runs[0]).inputs in table


def test_differences_from_the_baseline_are_taken_seed_by_seed(
    checkout: Path, tmp_path: Path
) -> None:
    recipe, runs = small()
    keys = Keys(recipe.target)
    for run in runs:  # seeds move both points by the same, and the difference by little
        better = 1.0 + 0.1 * run.seed if run.point == "wide" else 0.0
        if run.seed != 3 or run.point == "wide":
            keep(keys.key(run), tmp_path, psnr_y=20.0 + 5 * run.seed + better)
    table = markdown_table(collect(recipe, runs), "small")
    assert "Difference from `narrow`, paired by seed" in table
    assert "over training seeds (those with a result; none for a single one)" in table
    head, _, row = table.splitlines()[-3:]
    assert head == "| point | PSNR-Y ↑ | ST-LPIPS vgg ↓ |"
    # Of the seeds 1 and 2, which both points have: 1.1 and 1.2.
    assert row == "| wide | +1.15 ± 0.64 | – |"


def test_many_params_of_points_have_no_columns(checkout: Path, tmp_path: Path) -> None:
    name, recipe = load_recipe("table5")
    table = markdown_table(collect(recipe, runs_of(recipe, name)), "table5")
    assert table.startswith("| point | codes, bytes (stored) |")
    assert f"The points differ in {len(recipe.varied)} params, which the recipe lists." in table


def test_scores_on_the_way_have_a_table_and_panels(checkout: Path, tmp_path: Path) -> None:
    (checkout / "small.yaml").write_text(SMALL.replace("title", "milestones: 2\ntitle", 1))
    recipe, runs = small()
    key = Keys(recipe.target).key(runs[0])
    keep(key, tmp_path, psnr_y=23.0)
    assert collect(recipe, runs).points[0].missing == [1, 2, 3], "its milestones are not scored"
    rows = {"tokenizer-5": {"psnr_y": 22.0}, "tokenizer": {"psnr_y": 23.0}}
    store_result(key, {}, {SCORES: scores_of_models(tmp_path, rows)})
    collection = collect(recipe, runs)
    table = markdown_table(collection, "small")
    lines = table[table.index("On the way of each training:") :].splitlines()[2:8]
    assert lines[0] == "| point | steps | PSNR-Y ↑ | ST-LPIPS vgg ↓ |"
    assert lines[2:] == [
        "| wide | 5 | 22.00 | – |",
        "|  | 10 | 23.00 | – |",
        "| narrow | 5 | missing | missing |",
        "|  | 10 | missing | missing |",
    ]
    draw_chart(collection, tmp_path / "chart.png")
    height = Image.open(tmp_path / "chart.png").size[1]
    draw_chart(
        replace(collection, recipe=recipe.model_copy(update={"milestones": 1})),
        tmp_path / "chart.png",
    )
    assert Image.open(tmp_path / "chart.png").size[1] == pytest.approx(height * 2 / 3, abs=1)


def test_without_results_every_score_is_missing(checkout: Path) -> None:
    recipe, runs = small()
    table = markdown_table(collect(recipe, runs), "small")
    # Of two points, of their difference, and in the note.
    assert table.count("missing") == 2 * len(recipe.points) + 2 + 1
    assert "**6 of 6 runs are missing**: wide (seeds 1, 2, 3), narrow (seeds 1, 2, 3)." in table


def test_a_table_of_all_stages_has_a_line_per_model(checkout: Path, tmp_path: Path) -> None:
    name, recipe = load_recipe("table4")
    runs = runs_of(recipe, name)
    path = scores_file(tmp_path, {"psnr_y": 22.5}, model="rap")
    store_result(Keys(recipe.target).key(runs[1]), {}, {SCORES: path})
    lines = markdown_table(collect(recipe, runs), name).splitlines()
    assert [line.split("|")[1].strip() for line in lines[2:8]] == ["vq", "", "", "tvq", "", ""]
    assert "upscaler, parameters" in lines[0] and "| rap | 22.50 |" in lines[7]


def test_results_of_other_code_are_left_out_unless_asked_for(
    checkout: Path, tmp_path: Path
) -> None:
    recipe, runs = small()
    before = Keys(recipe.target).key(runs[0])
    keep(before, tmp_path, psnr_y=21.0)
    (checkout / "tvqrap/networks/codebook.py").write_text("# other")
    now = Keys(recipe.target).key(runs[0])
    assert other_inputs(now) == {before.inputs}
    collection = collect(recipe, runs)
    assert collection.points[0].mean("tokenizer", "psnr_y") is None
    assert collection.others == (before.inputs,)
    mean = collect(recipe, runs, before.inputs).points[0].mean("tokenizer", "psnr_y")
    assert mean is not None and mean.value == 21


def test_a_table_says_what_else_its_runs_differ_in(checkout: Path, tmp_path: Path) -> None:
    (checkout / "small.yaml").write_text(
        SMALL.replace("{codebook: 16", "{init: given, codebook: 16", 1)
    )
    (checkout / "given").mkdir()
    recipe, runs = small()
    keys = Keys(recipe.target)
    for run in runs:
        means = {"tokenizer": {"psnr_y": 20.0}}
        later = run.seed == 3
        path = scores_of_models(
            tmp_path, means, ("b" if later else "a") * 64, 24, torch="2" if later else "1"
        )
        store_result(keys.key(run), {}, {SCORES: path})
    table = markdown_table(collect(recipe, runs), "small")
    assert "on 24 test images of" in table, "as scored, not as the params have it"
    odd = "wide seed 3, narrow seed 3"
    assert f"**Scored on other test images than the first run**: {odd}." in table
    assert "**Runs with different versions of torch**: 1, 2." in table
    digests = [keys.key(run).inputs for run in runs[:2]]
    assert f"with the inputs `{digests[0]}` and `{digests[1]}`." in table


@pytest.mark.parametrize("finished", [0, 2, 6])
def test_a_chart_is_drawn_whatever_is_missing(
    checkout: Path, tmp_path: Path, finished: int
) -> None:
    recipe, runs = small()
    for run in runs[:finished]:
        keep(Keys(recipe.target).key(run), tmp_path, psnr_y=20.0 + run.seed)
    draw_chart(collect(recipe, runs), tmp_path / "chart.png")
    assert Image.open(tmp_path / "chart.png").size[0] > 300
    assert not list(tmp_path.glob(".chart*"))


def test_collecting_fills_a_page_between_its_marks(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page = checkout / "page.md"
    start = "before\n<!-- small: begin -->\nold\n<!-- small: end -->\nafter\n"
    page.write_text(start)
    monkeypatch.setattr(sys, "argv", ["experiments", "collect", "small.yaml", "-o", "page.md"])
    for _ in range(2):
        with pytest.raises(SystemExit) as caught:
            main()
        assert caught.value.code == 0
        text = page.read_text()
        assert text.startswith("before\n<!-- small: begin -->\n\n| point |")
        assert text.endswith("![Two points](small.png)\n\n<!-- small: end -->\nafter\n")
        assert "old" not in text
    assert (checkout / "small.png").is_file()
    assert "6 of 6 runs are missing" in text and "collect small.yaml` from" in text
    monkeypatch.setattr(sys, "argv", [*sys.argv, "--seeds", "1"])
    with pytest.raises(SystemExit):
        main()
    text = page.read_text()
    assert "2 of 2 runs are missing" in text and "one training seed, no interval" in text
    assert "collect small.yaml --seeds 1` from" in text
    page.write_text("no marks\n")
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 1 and page.read_text() == "no marks\n"
    assert "<!-- small: begin -->" in capsys.readouterr().err
    with pytest.raises(UserError, match="once each"):
        filled(start + start, "small", [""], "page.md")


def test_labels_of_an_axis_leave_each_other_room() -> None:
    spread = [64.0, 256.0, 1024.0, 4096.0]
    assert axis_labels(spread) == ["64", "256", "1024", "4096"]
    narrow = [3072.0, 6144.0, 11264.0, 12288.0, 13312.0, 14336.0]
    assert axis_labels(narrow) == ["3072", "6144", "11264", "", "13312", ""]
    assert axis_labels([32.0]) == ["32"]
