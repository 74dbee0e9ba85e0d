"""`python -m stages.experiments cost`: what upscaling costs with each point of a recipe."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from stages.experiments.__main__ import app
from tests.support.paths import ROOT

RECIPE = """
title: Two networks
paper: none
profile: smoke
target: evaluate
seeds: [1, 2]
points:
  without-rap: {rap.steps: 0}
  with-rap: {rap.steps: 2}
  wide: {width: 0.25}
models: [rap]
scores: [psnr_y]
"""


def test_points_with_one_network_share_a_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(RECIPE)
    arguments = ["cost", str(recipe), "--side", "32", "--rounds", "1", "--device", "cpu"]
    done = CliRunner().invoke(app, [*arguments, "--threads", "1"])
    assert done.exit_code == 0, done.output
    table = [
        [cell.strip() for cell in line.split("|")[1:-1]]
        for line in done.stdout.splitlines()
        if line.startswith("| ")
    ]
    head, shared, wide = table
    assert (shared[0], wide[0]) == ("without-rap, with-rap", "wide")
    assert shared[1] == wide[1] == "32x32"
    for column in ("parameters", "GFLOP", "peak memory"):
        narrow, broad = (row[head.index(column)].split()[0] for row in (shared, wide))
        assert 0 <= float(narrow) < float(broad), column
