"""Which samples of a step's batch are taken where: by workers, and by one worker in turns.

A batch is divided into equal parts, the samples dealt to them in turn. A part's losses are its
samples' contributions to the means over the whole batch, so whatever is made of them - gradients,
recorded terms - is the whole batch's once it is added up over the parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Part:
    """Samples `index`, `index + of`, `index + 2 of` ... of a whole batch; all of it by default."""

    index: int = 0
    of: int = 1

    def leading(self, count: int) -> int:
        """How many of the part's samples are among the first `count` of the whole batch."""
        return len(range(self.index, count, self.of))

    def weight(self, count: int) -> float:
        """What a mean over those counts for in the mean over the first `count` of the batch."""
        return self.leading(count) / count


WHOLE = Part()


def interleave(parts: Sequence[Tensor]) -> Tensor:
    """The samples (n, ...) of all parts, in order of their index, as one batch in its order."""
    return parts[0] if len(parts) == 1 else torch.stack(tuple(parts), 1).flatten(0, 1)


def add_terms(total: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
    """Adds a part's terms to those of the parts before it."""
    for name, value in terms.items():
        total[name] = total[name] + value if name in total else value
