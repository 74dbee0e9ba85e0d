"""Margins of the choice of codes: distances to the nearest and second nearest entry."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from pipeline.inspection.sampling import TokenSample
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError

CLOSE = 0.01
"""A margin below this is close: another device may choose the second nearest entry."""


@dataclass(frozen=True)
class Margins:
    """Margins (second - nearest) / second of L2 distances, from 0 (a tie) to 1 (exact hit)."""

    samples: int
    vectors: int
    p1: float
    p10: float
    median: float
    p90: float
    close_share: float
    """Fraction of the vectors with a margin below `CLOSE`."""
    distance: float
    """Median distance to the nearest entry."""
    quantiles: tuple[float, ...]
    """Percentiles 0, 1, ... 100 of the margins."""


def save_margins(found: Margins, folder: Path, name: str) -> None:
    """Writes `margins/NAME.tsv`, which `dvc plots show` draws: percent of vectors and margin."""
    lines = ["percent\tmargin"]
    lines += [f"{percent}\t{margin:.6g}" for percent, margin in enumerate(found.quantiles)]
    write_atomic(folder / "margins" / f"{name}.tsv", "\n".join(lines) + "\n")


@torch.no_grad()
def margins(sample: TokenSample) -> Margins:
    """Margins of the texture vectors of the drawn samples, in float64."""
    tokenizer = sample.encoder.tokenizer
    entries = tokenizer.codebook.embedding.weight.double()
    nearest, second = [], []
    samples = 0
    for batch in sample.batches():
        texture = tokenizer.encode(sample.encoder.images(batch.crops)).texture
        for index in batch.drawn:
            vectors = texture[index].flatten(1).t().double()
            distances = torch.cdist(vectors, entries, compute_mode="donot_use_mm_for_euclid_dist")
            two = distances.topk(2, dim=1, largest=False).values.cpu().numpy()
            nearest.append(two[:, 0])
            second.append(two[:, 1])
            samples += 1
    if not samples:
        raise UserError(f"{sample.tokens}: found none of the drawn samples in {sample.pairs}")
    first, other = np.concatenate(nearest), np.concatenate(second)
    relative = (other - first) / np.maximum(other, np.finfo(np.float64).tiny)
    p1, p10, median, p90 = (float(value) for value in np.quantile(relative, (0.01, 0.1, 0.5, 0.9)))
    return Margins(
        samples=samples,
        vectors=len(relative),
        p1=p1,
        p10=p10,
        median=median,
        p90=p90,
        close_share=float((relative < CLOSE).mean()),
        distance=float(np.median(first)),
        quantiles=tuple(np.quantile(relative, np.linspace(0, 1, 101)).tolist()),
    )
