"""Recipes: the points of a figure or table, checked whole."""

import sys
from pathlib import Path

import pytest

from stages.experiments.__main__ import main
from stages.experiments.recipe import load_recipe, recipe_names, runs_of
from tests.support.experiments import SMALL, small
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UsageError


def test_the_papers_figure_and_tables_have_recipes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wanted = "figure6 table4 table5-package table5 table8-reconstruction table8"
    assert recipe_names() == wanted.split()
    for name in recipe_names():
        _, recipe = load_recipe(name)
        runs = runs_of(recipe, name)
        assert len(runs) == len(recipe.seeds) * len(recipe.points)
        assert {run.params.seed for run in runs} == set(range(1, len(recipe.seeds) + 1))


def test_a_grid_runs_seed_by_seed(checkout: Path) -> None:
    recipe, runs = small()
    wanted = [(point, seed) for seed in (1, 2, 3) for point in ("wide", "narrow")]
    assert [(run.point, run.seed) for run in runs] == wanted
    assert runs[1].params.architecture.structure is None
    assert runs[1].params.codebook == 16
    assert runs[1].values["structure"] == "none" and runs[0].values["structure"] == 16
    chosen = runs_of(recipe, "small", points=["narrow"], seeds=2)
    assert [(run.point, run.seed) for run in chosen] == [("narrow", 1), ("narrow", 2)]


def test_milestones_divide_a_training_evenly(checkout: Path) -> None:
    for parts, every, passed in ((1, 0, ()), (2, 20, (20,)), (5, 8, (8, 16, 24, 32))):
        text = SMALL.replace("title", f"milestones: {parts}\ntitle", 1)
        text = text.replace("codebook: 32", "codebook: 32, tokenizer.steps: 40")
        (checkout / "small.yaml").write_text(
            text.replace("codebook: 16", "codebook: 16, tokenizer.steps: 40")
        )
        _, runs = small()
        assert runs[0].params.tokenizer.monitoring.keep_every == every
        assert runs[0].values["tokenizer"]["monitoring"]["keep_every"] == every
        assert runs[0].milestones == tuple(passed)
        assert runs[0].milestone_rows == tuple(f"tokenizer-{step}" for step in passed)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("codebook: 32", "codebok: 32", ["points.wide: codebok is no key"]),
        ("codebook: 32", "rap.stepz: 0", ["rap.stepz is no key"]),
        ("codebook: 32", "rap.code: 0", ["rap.code is no key", "expected rap.loss_weights.code"]),
        ("codebook: 32", "structure: 12", ["points.wide", "structure is 12", "8, 16, 32"]),
        ("codebook: 32", "structure: 128", ["points.wide", "size is 64", "multiples of 128"]),
        ("codebook: 32", "seed: 3", ["points.wide.seed"]),
        ("profile: smoke", "profile: smok", ["'smok'", "smoke"]),
        ("seeds: [1, 2, 3]", "seeds: [1, 1]", ["seeds", "[1, 1]"]),
        ("models: [tokenizer]", "models: [rap]", ["models", "rap", "tokenizer"]),
        ("scores: [psnr_y, st", "scores: [psnr, st", ["scores", "'psnr'", "psnr_y"]),
        ("VQ: [narrow]", "VQ: [norrow]", ["chart.lines.VQ", "'norrow'", "wide, narrow"]),
        ("baseline: narrow", "baseline: norrow", ["baseline", "'norrow'", "wide, narrow"]),
        ("x: codebook", "x: texture", ["chart.x", "'texture'", "codebook, structure"]),
        ("x: codebook", "x: structure", ["chart.lines.VQ", "narrow", "'none'", "number"]),
        ("codebook: 16", "codebook: 0", ["chart.lines.VQ", "narrow", "0, expected", "above 0"]),
        ("title: Two", "titel: Two", ["titel: unknown key", "title"]),
        ("target: train_tokenizer", "target: make_pairs", ["target", "'make_pairs'"]),
        ("target: train_tokenizer", "target: evaluate\nmilestones: 3", ["milestones", "found 3"]),
        ("title", "milestones: 3\ntitle", ["points.wide", "steps is 10", "milestones, 3"]),
        ("title", "milestones: 5\ntitle", ["points.wide", "after 2 steps", "vq_warmup_steps, 4"]),
        (
            "wide: {",
            "wide: {tokenizer.monitoring.keep_every: 2, ",
            ["points.wide.tokenizer.monitoring.keep_every", "milestones"],
        ),
        ("scores: [psnr_y, st", "scores: [structure_share, st", ["structure_share"]),
    ],
)
def test_a_wrong_recipe_is_one_line(checkout: Path, old: str, new: str, words: list[str]) -> None:
    assert old in SMALL
    text = SMALL.replace(old, new, 1)
    if "keep_every" in new:
        text = text.replace("title", "milestones: 2\ntitle", 1)
    if "structure_share" in new:
        text = text.replace("target: train_tokenizer", "target: evaluate")
    (checkout / "small.yaml").write_text(text)
    with pytest.raises(UsageError) as caught:
        small()
    message = str(caught.value)
    assert message.startswith("small") and "\n" not in message
    for word in words:
        assert word in message


def test_a_wrong_request_is_one_line(
    checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for arguments, words in (
        (["run", "figure7"], "'figure7' is not known, expected one of figure6, table4"),
        (["run", "small.yaml", "--points", "wide,middle"], "'middle' is not among the points"),
        (["run", "small.yaml", "--seeds", "4"], "--seeds is 4; allowed with small are 1 to 3"),
        (["collect", "absent.yaml"], "'absent.yaml' is not known"),
    ):
        monkeypatch.setattr(sys, "argv", ["experiments", *arguments])
        with pytest.raises(SystemExit) as caught:
            main()
        said = capsys.readouterr().err
        assert caught.value.code == 2 and said.startswith("error: ") and words in said
    monkeypatch.chdir(checkout / "data")
    with pytest.raises(SystemExit):
        main()
    assert "expected the top folder of a checkout" in capsys.readouterr().err
