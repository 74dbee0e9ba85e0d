"""Communication of workers that train one network together.

All workers hold the same weights and take the same steps, each on its share of every batch. They
compute contributions, which are summed here. They exchange sums, the texture that sets codebook
entries, and the entries that k-means on the main worker finds. So their weights stay equal to the
last bit. A single worker exchanges nothing.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import distributed as dist

from tvqrap.runtime.device import means_cuda
from tvqrap.runtime.errors import UsageError, UserError, first_line
from tvqrap.training.batch import Microbatch, interleave

RANK, COUNT, LOCAL_RANK = "RANK", "WORLD_SIZE", "LOCAL_RANK"
"""Variables that torchrun, Ray Train and this project's own launcher set for a worker."""
OTHERS_GONE = "the other workers are gone"
"""What a worker says that failed because another one has."""


@dataclass(frozen=True)
class Workers:
    """The rank of this worker and the number of workers."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        """Whether this worker writes and reports."""
        return self.rank == 0

    @property
    def microbatch(self) -> Microbatch:
        """This worker's share of each batch."""
        return Microbatch(self.rank, self.count)

    @torch.no_grad()
    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        """Sums tensors over the workers, in place; they are of one type and device."""
        if self.count == 1 or not tensors:
            return
        together = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(together)
        sizes = [tensor.numel() for tensor in tensors]
        for tensor, total in zip(tensors, together.split(sizes), strict=True):
            tensor.copy_(total.view(tensor.shape))

    def reduce_terms(self, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        """Sums each of the scalar terms over the workers."""
        if self.count == 1:
            return terms
        together = torch.stack([value.detach().double().reshape(()) for value in terms.values()])
        dist.all_reduce(together)
        return dict(zip(terms, together.unbind(), strict=True))

    def gather(self, samples: Tensor) -> Tensor:
        """Gathers samples (n, ...) of all workers as (n count, ...), in the order of the batch."""
        if self.count == 1:
            return samples
        parts = [torch.empty_like(samples) for _ in range(self.count)]
        dist.all_gather(parts, samples.contiguous())
        return interleave(parts)

    @torch.no_grad()
    def broadcast(self, tensor: Tensor) -> None:
        """Copies the main worker's tensor to all workers, in place."""
        if self.count > 1:
            dist.broadcast(tensor, 0)

    def all_reduce_max(self, number: int) -> int:
        """Returns the largest of the workers' numbers."""
        if self.count == 1:
            return number
        found = torch.tensor(number)
        dist.all_reduce(found, dist.ReduceOp.MAX)
        return int(found)

    def barrier(self) -> None:
        """Returns once all workers have called it."""
        self.all_reduce_max(0)

    def check_equal(
        self, what: str, digest: str, advice: str = "all must see one checkout"
    ) -> None:
        """Raises `UserError` on all workers where their hexadecimal digests differ.

        The message names the workers, `what` they should share, and `advice`.
        """
        if self.count == 1:
            return
        own = torch.tensor(list(bytes.fromhex(digest)), dtype=torch.uint8)
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own)
        others = [rank for rank, part in enumerate(parts) if not torch.equal(part, parts[0])]
        if others:
            raise UserError(
                f"workers {', '.join(map(str, others))} of {self.count}: not the {what} that "
                f"worker 0 has; {advice}"
            )


ALONE = Workers()


class _Total(torch.autograd.Function):
    """A sum over the workers, with the gradient of the sum of their losses."""

    @staticmethod
    def forward(ctx: object, value: Tensor) -> Tensor:
        total = value.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        total = gradient.clone()
        dist.all_reduce(total)
        return total


def total(value: Tensor) -> Tensor:
    """Sums `value` over the workers, with a gradient."""
    return _Total.apply(value)


@contextmanager
def joined(device: str, expected: int) -> Iterator[Workers]:
    """Joins the workers that the environment variables name; without them, yields `ALONE`.

    `expected` is the number of workers in the params. Sums go over gloo on CPUs and over NCCL on
    CUDA devices. Each worker takes the CUDA device of its number on its machine.

    Raises:
        UsageError: There are more or fewer workers.
        UserError: The others are gone.
    """
    count = int(os.environ.get(COUNT, 1))
    if count != expected:
        raise UsageError(
            f"found {count} workers, expected {expected} by the params (workers of the stage, "
            "compute.workers, batch sizes)"
        )
    if count == 1:
        yield ALONE
        return
    cuda = means_cuda(device)
    if cuda and torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get(LOCAL_RANK, 0)))
    starts = not dist.is_initialized()
    try:
        if starts:
            dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo")
        yield Workers(dist.get_rank(), dist.get_world_size())
    except RuntimeError as error:
        if not any(name in str(error) for name in ("gloo", "NCCL", "c10d", "Connection")):
            raise
        raise UserError(f"{OTHERS_GONE} ({first_line(error)})") from None
    finally:
        if starts and dist.is_initialized():
            dist.destroy_process_group()
