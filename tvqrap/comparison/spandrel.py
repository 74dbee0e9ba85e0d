"""Upscalers of other projects as methods of a comparison."""

from importlib import metadata
from pathlib import Path

import torch

from tvqrap.comparison.methods import Method
from tvqrap.pretrained.models import find_model
from tvqrap.pretrained.other import OtherNetwork
from tvqrap.runtime.hardware import device_name
from tvqrap.upscaling.tiles import LARGEST_TILE
from tvqrap.upscaling.upscaler import Upscaler


def other_upscaler(
    path: Path, device: str | torch.device = "cpu", tile: int = LARGEST_TILE
) -> Method:
    """An upscaler from its published file, for `evaluate`.

    Images with more LR pixels than a tile of side `tile` are upscaled in tiles that overlap and are
    blended. Raises UserError where spandrel is missing, or the file holds no upscaler by four.
    """
    upscaler = Upscaler.from_pretrained(find_model(path), device, tile=tile)
    network = upscaler.network
    assert isinstance(network, OtherNetwork)
    sizes = network.descriptor.size_requirements
    return Method(
        upscaler,
        {
            "kind": f"spandrel {network.name}",
            "fingerprint": upscaler.fingerprint,
            "spandrel": metadata.version("spandrel"),
            "device": device_name(upscaler.device),
            "padding": {"multiple": sizes.multiple_of, "minimum": sizes.minimum},
        },
        tile=tile,
        overlap=upscaler.limits.overlap,
    )
