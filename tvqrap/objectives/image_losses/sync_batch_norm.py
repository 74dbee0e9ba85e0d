"""Batch normalisation over the microbatches of several workers."""

import torch
from torch import Tensor, nn

from tvqrap.runtime.device import to_float32
from tvqrap.training.distributed import total


class SharedBatchNorm(nn.BatchNorm2d):
    """`nn.BatchNorm2d` with the statistics of all workers' microbatches, on any device.

    PyTorch's SyncBatchNorm needs a GPU, and takes its place there. Microbatches (n, C, H, W) may
    differ in n, or be empty. Statistics of bfloat16 are float32.
    """

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        dtype, input = input.dtype, to_float32(input)
        places = input.new_full((1,), input.numel() / self.num_features)
        sums = total(torch.cat((input.sum((0, 2, 3)), places)))
        count = sums[-1].detach()
        mean = sums[:-1] / count
        centred = input - mean[:, None, None]
        variance = total(centred.square().sum((0, 2, 3))) / count
        self._remember(mean.detach(), variance.detach() * count / (count - 1))
        scale = self.weight * (variance + self.eps).rsqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None and self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)
