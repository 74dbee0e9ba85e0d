"""Compiling networks for training."""

import torch
from torch import nn

from tvqrap.networks.blocks import Down, Res, SwinBlock, Up

RECOMPILATIONS = 64
"""Shapes of one kind of block that are compiled; further ones would run as they are."""


def compile_blocks(network: nn.Module) -> None:
    """Compiles a network's blocks, each by itself, at their first use.

    Blocks alike are compiled once. The tasks go back through the networks in stages (to the
    last layer, to the decoder's input); whole compiled networks would go all the way each time.
    """
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    # The graph is gone back through more than once.
    torch._functorch.config.donated_buffer = False
    for module in network.modules():
        if isinstance(module, Res | Down | Up | SwinBlock):
            module.compile(dynamic=False)
