"""Which codes a training uses, and when to worry about it."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from tvqrap.training.distributed import Workers

COLLAPSED = 0.1
"""Share of the codebook below which a warning is given."""
VECTORS_PER_ENTRY = 8
"""Quantized vectors for each entry before usage is judged."""


def perplexity(counts: Tensor) -> Tensor:
    """exp of the entropy of a histogram of codes (entries): codes in use, were all used equally."""
    share = counts / counts.sum().clamp_min(1)
    return (-(share * share.clamp_min(1e-12).log()).sum()).exp()


class CodeUsage:
    """Counts of the codes chosen since the last look."""

    def __init__(self, entries: int, device: torch.device) -> None:
        self.window = torch.zeros(entries, dtype=torch.int64, device=device)
        """Since the last row of the curves."""
        self.judged = torch.zeros_like(self.window)
        """Since usage was last judged, without the window."""

    def add(self, counts: Tensor, workers: Workers) -> None:
        """Counts a step's codes: int64 (entries) of this worker, summed over workers in place."""
        workers.all_reduce([counts])
        self.window += counts

    def look(self) -> dict[str, float]:
        """Share of the codebook in use, perplexity and unused entries of a window that ends here;
        nothing where no code was chosen in it.
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
        """The share of the codebook in use, where that is too little; judged now and then."""
        entries = len(self.judged)
        if self.judged.sum() < VECTORS_PER_ENTRY * entries:
            return None
        share = (self.judged > 0).float().mean().item()
        self.judged = torch.zeros_like(self.judged)
        return share if share < COLLAPSED else None

    def state(self) -> dict[str, Any]:
        """The counts."""
        return {"window": self.window, "judged": self.judged}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.window = state["window"].to(self.window)
        self.judged = state["judged"].to(self.judged)
