"""A checkout of the stage that scores the test set."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import torch

from pipeline.shards.manifest import Manifest
from pipeline.tokens.extract import extract_set
from stages.params import load_params
from stages.runner.stage import Stage
from tests.support.paths import ROOT
from tests.support.tokens import SETTINGS, SMALL, make_material, with_changes
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model


def make_evaluation(root: Path) -> None:
    """Fills a folder with pairs, tokens and models of random weights.

    Its second test sample has no HR image, and so no tokens.
    """
    root.mkdir(exist_ok=True)
    pairs, tokenizer = make_material(root, count=3)
    shutil.copy(ROOT / "dvc.yaml", root)
    shutil.copytree(tokenizer, root / "models/tokenizer")
    shutil.copytree(pairs, root / "data/pairs/test")
    without = with_changes(
        pairs,
        root / "fewer/train",
        lambda number, sample: replace(sample, members={"json": b"{}"}) if number == 1 else sample,
    )
    extract_set(without, tokenizer, root / "made", SETTINGS, executor="serial", workers=1)
    tokens = Manifest.load(root / "made/train")
    shutil.copytree(root / "made/train", root / "data/tokens/test")
    pairs_root = Manifest.load(pairs).root
    replace(tokens, extra={**tokens.extra, "pairs": pairs_root}).save(root / "data/tokens/test")
    torch.manual_seed(0)
    for name in ("predictor", "rap"):
        save_model(root / "models" / name, "upscaler", UpscalerNetwork(SMALL), SMALL, {})


def evaluation_stage(root: Path) -> Stage:
    """The stage in such a folder, which becomes the current directory, with two metrics."""
    os.chdir(root)
    params = load_params(ROOT / "params.yaml")
    fewer = params.evaluation.model_copy(update={"metrics": ("psnr_y", "grid")})
    # Tests fork, and a process that is forked cannot use its parent's threads.
    alone = params.compute.model_copy(update={"threads": 1})
    params = params.model_copy(update={"evaluation": fewer, "compute": alone})
    return Stage("evaluate", params, "fingerprint", root / ".scratch/stage-01")
