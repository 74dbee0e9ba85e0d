"""A mixture of sets: plans from weights which set each sample of the endless stream comes from."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from math import gcd

import numpy as np

from pipeline.loading.dataset import ShardedDataset
from pipeline.rng import random_stream


@dataclass(frozen=True)
class Mixture:
    """Sets that a training takes samples of in fixed proportions.

    Of any first N samples of the stream, each set has its share to within one sample. Within a
    batch the sets are in random order, so that no set always has the first or last places.
    """

    names: tuple[str, ...]
    """Sorted, so that the order of the sets in the params changes nothing."""
    datasets: tuple[ShardedDataset, ...]
    weights: tuple[int, ...]

    @classmethod
    def of(cls, datasets: dict[str, ShardedDataset], weights: dict[str, int]) -> "Mixture":
        """A mixture of named sets, each with its weight."""
        names = tuple(sorted(datasets))
        return cls(
            names, tuple(datasets[name] for name in names), tuple(weights[name] for name in names)
        )

    @classmethod
    def alone(cls, dataset: ShardedDataset) -> "Mixture":
        """One set, unmixed."""
        return cls(("",), (dataset,), (1,))

    def before(self, count: int) -> tuple[int, ...]:
        """Number of samples of each set among the first `count` of the stream."""
        rounds, rest = divmod(count, len(self._pattern))
        inside = self._pattern[:rest]
        return tuple(
            int(rounds * (self._pattern == each).sum() + (inside == each).sum())
            for each in range(len(self.datasets))
        )

    def batch(self, seed: int, step: int, size: int) -> list[int]:
        """The number of the set of each sample of a batch of `size`, (size)."""
        places = np.arange(step * size, (step + 1) * size) % len(self._pattern)
        sets = self._pattern[places]
        if len(self.datasets) > 1:
            random_stream("mixture", seed, step).shuffle(sets)
        return [int(each) for each in sets]

    def seed(self, seed: int, number: int) -> int | str:
        """The seed of the order of one set.

        Sets of a mixture have orders of their own: those of one list of photographs would
        otherwise show a photograph's crops side by side.
        """
        return seed if len(self.datasets) == 1 else f"{seed} {self.names[number]}"

    @cached_property
    def _pattern(self) -> np.ndarray:
        return repeating_pattern(self.weights)


def repeating_pattern(weights: Sequence[int]) -> np.ndarray:
    """The shortest sequence of set numbers in proportion to their weights, int64 (sum of weights).

    In each beginning of the repeated sequence, each set has its share to within one sample. The
    j-th sample of a set of share p has its place between (j - 1) / p and j / p. Of the sets that
    may take a place, the one with the earliest end does. This order meets all ends (proportionate
    progress: Baruah et al., Algorithmica 15, 1996).
    """
    divisor = gcd(*weights)
    parts = [weight // divisor for weight in weights]
    total = sum(parts)
    taken = [0] * len(parts)
    chosen = []
    for place in range(total):
        ready = [n for n, part in enumerate(parts) if taken[n] * total < (place + 1) * part]
        first = min(ready, key=lambda n: -(-(taken[n] + 1) * total // parts[n]))
        taken[first] += 1
        chosen.append(first)
    return np.array(chosen)
