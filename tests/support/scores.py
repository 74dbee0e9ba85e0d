"""Results of a small run, made without any network."""

from pathlib import Path

import numpy as np
from PIL import Image

from tvqrap.evaluation.cases import Case, PendingCase
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.results import Results
from tvqrap.evaluation.run import Evaluation, TestSet


def photo(seed: int, side: int = 64) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
    return np.asarray(coarse.resize((side, side), Image.Resampling.BICUBIC))


def case(name: str, seed: int, side: int = 64) -> Case:
    """HR, LR, and three models of which the last is the closer the larger the seed."""
    hr = photo(seed, side)
    lr = np.asarray(Image.fromarray(hr).reduce(4))
    large = Image.fromarray(lr).resize((side, side), Image.Resampling.BICUBIC)
    noise = np.random.default_rng(seed).normal(0, 30 / (1 + seed), hr.shape)
    made = {
        "bicubic": np.asarray(large),
        "theirs": np.asarray(large.transpose(Image.Transpose.ROTATE_180)),
        "ours": np.clip(hr + noise, 0, 255).astype(np.uint8),
    }
    return Case(name, name, hr, lr, made)


def run(folder: Path, cases: list[Case]) -> Results:
    """Scores by PSNR and GMSD, with the images kept in `folder`."""
    pending = [PendingCase(case.image, lambda c=case: c) for case in cases]  # type: ignore[misc]
    models = {model: {"kind": "made"} for model in cases[0].made}
    tests = TestSet(len(cases), True, pending, {})
    return Evaluation(tests, models, Scorer(["psnr_y", "gmsd"]), 0.95).score(folder, workers=1)
