"""Batches of a training step, and the microbatches that they are divided into."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Microbatch:
    """Samples `index`, `index + of`, `index + 2 of` ... of a whole batch; all of it by default."""

    index: int = 0
    of: int = 1

    def leading(self, count: int) -> int:
        """Number of its samples that are among the first `count` of the whole batch."""
        return len(range(self.index, count, self.of))

    def weight(self, count: int) -> float:
        """Weight of a mean over those samples in the mean over the first `count` of the batch."""
        return self.leading(count) / count


WHOLE_BATCH = Microbatch()


def interleave(microbatches: Sequence[Tensor]) -> Tensor:
    """Joins samples (n, ...) of all microbatches, by index, into one batch in its order."""
    if len(microbatches) == 1:
        return microbatches[0]
    return torch.stack(tuple(microbatches), 1).flatten(0, 1)


def add_terms(total: dict[str, Tensor], terms: dict[str, Tensor]) -> None:
    """Adds a microbatch's terms to `total` in place."""
    for name, value in terms.items():
        total[name] = total[name] + value if name in total else value


@dataclass(frozen=True)
class Batch:
    """Samples of one step; members that a stage does not read are None.

    Images are uint8 (N, H, W, 3) as stored: a quarter of the bytes to copy to a device.
    """

    keys: tuple[str, ...]
    hr: Tensor | None = None
    """uint8 (N, H, W, 3)."""
    lr: Tensor | None = None
    """uint8 (N, H/4, W/4, 3)."""
    structure: Tensor | None = None
    """float16 or float32 (N, C, H/s, W/s); None in the vanilla-VQ baseline too."""
    codes: Tensor | None = None
    """int64 (N, H/t, W/t)."""
    teacher: Tensor | None = None
    """uint8 (N, H, W, 3): the teacher's images of `lr`."""

    def dealt(self, index: int, of: int) -> "Batch":
        """Samples `index`, `index + of` ... of this batch."""
        if of == 1:
            return self
        return self._with(self.keys[index::of], lambda member: member[index::of].contiguous())

    def pinned(self) -> "Batch":
        """A copy in page-locked memory. Raises RuntimeError where torch finds no GPU."""
        return self._with(self.keys, Tensor.pin_memory)

    def _with(self, keys: tuple[str, ...], change: Callable[[Tensor], Tensor]) -> "Batch":
        members = (self.hr, self.lr, self.structure, self.codes, self.teacher)
        return Batch(keys, *(None if member is None else change(member) for member in members))

    def microbatches(self, count: int, own: Microbatch) -> Iterator[tuple[Microbatch, "Batch"]]:
        """Divides this batch, which is `own` of a whole one, into `count` microbatches of it."""
        for index in range(count):
            yield (
                Microbatch(index * own.of + own.index, count * own.of),
                self.dealt(index, count),
            )


def as_image(
    stored: Tensor | None, device: torch.device, dtype: torch.dtype = torch.float32
) -> Tensor:
    """uint8 (N, H, W, 3) -> `dtype` (N, 3, H, W) in [-1, 1], channels last in memory."""
    assert stored is not None, "this stage reads images that its loader did not load"
    image = stored.to(device, non_blocking=True).permute(0, 3, 1, 2).to(dtype)
    return image.div_(127.5).sub_(1)
