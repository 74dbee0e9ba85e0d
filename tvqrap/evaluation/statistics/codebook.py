"""What the codes of a set say about a codebook and its predictor."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CodeUse:
    """How a set of codes spreads over the codebook."""

    usage: float
    """Share of the codebook's entries that occur."""
    perplexity: float
    """exp of the entropy of the codes' histogram: entries in use, were all used equally."""


def code_use(codes: NDArray[np.integer], codebook: int) -> CodeUse:
    """Usage and perplexity of codes (any shape, values below `codebook`).

    Raises ValueError where there are no codes, or some lie outside the codebook.
    """
    if not codes.size:
        raise ValueError("no codes")
    if codes.min() < 0 or codes.max() >= codebook:
        raise ValueError(f"codes from {codes.min()} to {codes.max()} in a codebook of {codebook}")
    counts = np.bincount(codes.reshape(-1).astype(np.int64), minlength=codebook)
    shares = counts[counts > 0] / codes.size
    return CodeUse(
        usage=float((counts > 0).mean()), perplexity=float(np.exp(-(shares * np.log(shares)).sum()))
    )
