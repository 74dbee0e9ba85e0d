"""Compiling networks for training."""

import torch
from torch import nn

from tvqrap.networks.blocks import BLOCKS

RECOMPILATIONS = 64
"""Shapes of one class of block that are compiled; further ones run uncompiled."""


def compile_blocks(network: nn.Module) -> None:
    """Compiles each block of a network at its first use.

    Equal blocks are compiled once. The tasks run backward passes through parts of a network, to the
    last layer or to the decoder's input. A network compiled whole would run all of it each time.
    """
    torch._dynamo.config.recompile_limit = RECOMPILATIONS
    # Several backward passes use the same graph.
    torch._functorch.config.donated_buffer = False
    for module in network.modules():
        if isinstance(module, BLOCKS):
            module.compile(dynamic=False)
