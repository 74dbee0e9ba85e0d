"""Usage and perplexity of the codes of a set."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class CodeUse:
    """How a set of codes spreads over the codebook."""

    usage: float
    """Share of the codebook's entries that occur."""
    perplexity: float
    """exp of the entropy of the codes' histogram: the number of entries if used equally."""


def count_codes(codes: NDArray[np.integer], codebook: int) -> NDArray[np.int64]:
    """Counts how often each of the `codebook` entries occurs in codes of any shape.

    Raises ValueError where there are no codes, or some lie outside the codebook.
    """
    if not codes.size:
        raise ValueError("no codes")
    if codes.min() < 0 or codes.max() >= codebook:
        raise ValueError(f"codes from {codes.min()} to {codes.max()} in a codebook of {codebook}")
    return np.bincount(codes.reshape(-1).astype(np.int64), minlength=codebook)


def use_of_counts(counts: NDArray[np.int64]) -> CodeUse:
    """Usage and perplexity, from how often each entry occurs."""
    shares = counts[counts > 0] / counts.sum()
    return CodeUse(
        usage=float((counts > 0).mean()), perplexity=float(np.exp(-(shares * np.log(shares)).sum()))
    )


def code_use(codes: NDArray[np.integer], codebook: int) -> CodeUse:
    """Usage and perplexity of codes. Raises ValueError as `count_codes` does."""
    return use_of_counts(count_codes(codes, codebook))
