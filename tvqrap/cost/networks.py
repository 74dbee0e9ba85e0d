"""Networks whose cost is measured: model folders, files of weights, untrained references.

The cost of a network does not depend on its weights, so the references need no download.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tvqrap.architecture import SCALE, Architecture
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.other import SUFFIXES, load_other
from tvqrap.pretrained.single_file import is_single_file, load_single_file
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.errors import UserError
from tvqrap.upscaling.upscaler import Upscaler


@dataclass(frozen=True)
class Timed:
    """A network that is ready to run."""

    run: Callable[[Tensor], Tensor]
    """float32 (1, 3, H, W) to (1, 3, 4H, 4W)."""
    network: nn.Module


def _rrdb() -> nn.Module:
    from spandrel.architectures.ESRGAN import ESRGAN  # type: ignore[import-untyped]

    # ESRGAN, Real-ESRGAN x4plus and BSRGAN.
    network: nn.Module = ESRGAN(num_filters=64, num_blocks=23, scale=SCALE)
    return network


def _transformer(name: str, **options: Any) -> nn.Module:
    import importlib

    architecture = getattr(importlib.import_module(f"spandrel.architectures.{name}"), name)
    network: nn.Module = architecture(
        img_size=64,
        embed_dim=180,
        num_heads=[6] * 6,
        upscale=SCALE,
        upsampler="pixelshuffle",
        resi_connection="1conv",
        **options,
    )
    return network


REFERENCES: dict[str, Callable[[], nn.Module]] = {
    "rrdb": _rrdb,
    # Liang et al. 2021, "classical" x4.
    "swinir": lambda: _transformer("SwinIR", depths=[6] * 6, window_size=8, mlp_ratio=2),
    # Chen et al. 2023, x4.
    "dat": lambda: _transformer("DAT", depth=[6] * 6, split_size=[8, 32], expansion_factor=4),
    # Chen et al. 2023, x4.
    "hat": lambda: _transformer(
        "HAT", depths=[6] * 6, window_size=16, compress_ratio=3, squeeze_factor=30, mlp_ratio=2
    ),
}
"""Untrained networks of the published sizes, by name."""

PAPER = "paper"
"""The paper's network, untrained."""


def build(given: str, device: str) -> Timed:
    """Builds a reference, the paper's network, a model folder or a file that spandrel knows.

    Raises UserError where it is none of these.
    """
    torch.manual_seed(0)
    path = Path(given)
    if given == PAPER or path.is_dir() or is_single_file(path):
        own = UpscalerNetwork(Architecture()) if given == PAPER else _ours(path)
        upscaler = Upscaler(own, device=device, tile=1024)
        return Timed(lambda lr: upscaler(lr * 2 - 1), own)
    if given in REFERENCES:
        try:
            network = REFERENCES[given]().eval().to(device)
        except ModuleNotFoundError:
            raise UserError(
                f"{given}: spandrel is not installed; `pip install tvqrap[evaluation]` brings it"
            ) from None
        return Timed(lambda lr: network(lr.to(device)).cpu(), network)
    if path.is_file() and path.suffix.lower() in SUFFIXES:
        found = load_other(path, device)
        return Timed(lambda lr: found(lr.to(device)).cpu(), found.model)
    raise UserError(
        f"{given}: expected {PAPER}, {', '.join(REFERENCES)}, a model folder or a file of weights"
    )


def _ours(path: Path) -> UpscalerNetwork:
    return load_upscaler(path) if path.is_dir() else load_single_file(path)
