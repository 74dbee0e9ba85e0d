"""Blocks of the networks."""

import pytest
import torch
from torch import Tensor

from tvqrap.networks.blocks import Norm

MAPS = torch.randn(2, 16, 5, 7, generator=torch.Generator().manual_seed(0))


def normed(maps: Tensor) -> tuple[Tensor, ...]:
    """Output of a norm, then the gradients of its input, weight and bias."""
    norm = Norm(MAPS.shape[1])
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1, 2, MAPS.shape[1]))
        norm.bias.copy_(torch.linspace(1, -1, MAPS.shape[1]))
    leaf = maps.detach().requires_grad_()
    out = norm(leaf)
    out.backward(MAPS.flip(0).to(out))
    assert leaf.grad is not None and norm.weight.grad is not None and norm.bias.grad is not None
    return out.detach(), leaf.grad, norm.weight.grad, norm.bias.grad


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_a_norm_of_bfloat16_is_that_of_float32(layout: torch.memory_format) -> None:
    rounded = MAPS.bfloat16().contiguous(memory_format=layout)
    found, expected = normed(rounded), normed(rounded.float())
    for own, exact in zip(found, expected, strict=True):
        assert (own.float() - exact).abs().max() < 0.02 * exact.abs().max()
    assert [each.dtype for each in found] == [torch.bfloat16] * 2 + [torch.float32] * 2
    assert found[0].is_contiguous(memory_format=layout)
