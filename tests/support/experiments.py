"""A small recipe, and made-up results of its runs."""

import json
from collections.abc import Mapping
from pathlib import Path

from stages.experiments.recipe import Recipe, Run, load_recipe, runs_of
from stages.experiments.results import (
    SCORES,
    Key,
    store_result,
)

SMALL = """
title: Two points
paper: Figure 0
profile: smoke
target: train_tokenizer
seeds: [1, 2, 3]
points:
  wide: {codebook: 32}
  narrow: {codebook: 16, structure: none}
models: [tokenizer]
scores: [psnr_y, stlpips_vgg]
baseline: narrow
chart:
  x: codebook
  scores: [psnr_y]
  lines: {TVQ: [wide], VQ: [narrow]}
"""


def small() -> tuple[Recipe, list[Run]]:
    name, recipe = load_recipe("small.yaml")
    return recipe, runs_of(recipe, name)


def scores_file(folder: Path, means: Mapping[str, float], model: str = "tokenizer") -> Path:
    """Scores of one model as `evaluate` writes them, of 12 images."""
    return scores_of_models(folder, {model: means})


def scores_of_models(
    folder: Path,
    means: Mapping[str, Mapping[str, float]],
    pairs: str = "a" * 64,
    images: int = 12,
    **versions: str,
) -> Path:
    """Scores of several models as `evaluate` writes them."""
    intervals = {
        model: {
            column: {"mean": mean, "low": mean, "high": mean, "photos": 2, "images": 12}
            for column, mean in columns.items()
        }
        for model, columns in means.items()
    }
    path = folder / "made.json"
    document = {
        "protocol": {"data": {"pairs": pairs, "images": images}, "versions": versions},
        "scores": intervals,
        "totals": {model: {"code_usage": 0.5} for model in means},
        "failures": [],
    }
    path.write_text(json.dumps(document))
    return path


def keep(key: Key, folder: Path, **means: float) -> None:
    """Stores made-up scores under a key."""
    store_result(key, {"point": "made up"}, {SCORES: scores_file(folder, means)})
