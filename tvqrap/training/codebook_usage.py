"""Use of codes in a training, and detection of a collapsing codebook."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tvqrap.training.distributed import ALONE, Workers

COLLAPSED = 0.1
"""Share of the codebook in use below which training warns."""
VECTORS_PER_ENTRY = 8
"""Quantized vectors for each entry before the share in use is judged."""


def perplexity(counts: Tensor) -> Tensor:
    """Perplexity of a histogram of codes (entries): exp of its entropy."""
    share = counts / counts.sum().clamp_min(1)
    return (-(share * share.clamp_min(1e-12).log()).sum()).exp()


class CodeUsage:
    """Counts of the chosen codes."""

    def __init__(self, entries: int, device: torch.device) -> None:
        self.window = torch.zeros(entries, dtype=torch.int64, device=device)
        """Since the last row of the curves."""
        self.judged = torch.zeros_like(self.window)
        """Since the use was last judged, without the window."""

    def add(self, counts: Tensor, workers: Workers = ALONE) -> None:
        """Counts a step's codes: int64 (entries) of this worker, summed over workers in place."""
        workers.all_reduce([counts])
        self.window += counts

    def look(self) -> dict[str, float]:
        """Ends the window; returns its share of codes in use, perplexity and unused codes.

        Returns nothing if the window has no codes.
        """
        counts, entries = self.window, len(self.window)
        self.judged += counts
        used = int((counts > 0).sum())
        found = {
            "codes_used": used / entries,
            "perplexity": perplexity(counts).item(),
            "dead_codes": float(entries - used),
        }
        chosen = bool(counts.any())
        self.window = torch.zeros_like(counts)
        return found if chosen else {}

    def collapse(self) -> float | None:
        """Returns the share of the codebook in use if it was judged and is too small, else None."""
        entries = len(self.judged)
        if self.judged.sum() < VECTORS_PER_ENTRY * entries:
            return None
        share = (self.judged > 0).float().mean().item()
        self.judged = torch.zeros_like(self.judged)
        return share if share < COLLAPSED else None

    def state(self) -> dict[str, Any]:
        """Returns the counts."""
        return {"window": self.window, "judged": self.judged}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
        self.window = state["window"].to(self.window)
        self.judged = state["judged"].to(self.judged)
