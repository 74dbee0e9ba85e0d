"""Activation checkpointing: less memory for more arithmetic."""

from functools import partial

from torch import nn
from torch.utils.checkpoint import checkpoint

from tvqrap.networks.blocks import BLOCKS


def recompute_blocks(network: nn.Module) -> None:
    """Makes each block keep its input alone for the backward pass, which runs the block again.

    Results are equal to the last bit. Blocks draw no random numbers, whose state would be kept.
    """
    for module in network.modules():
        if isinstance(module, BLOCKS):
            module.forward = partial(  # type: ignore[method-assign]
                checkpoint, module.forward, use_reentrant=False, preserve_rng_state=False
            )
