"""Upscalers of other projects, which `spandrel` recognises by their tensors."""

from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvqrap.architecture import SCALE
from tvqrap.comparison.methods import Method
from tvqrap.evaluation.metrics.weights import sha256_of
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.hardware import device_name
from tvqrap.runtime.state_dict import read_state_dict
from tvqrap.upscaling.tiles import LARGEST_TILE, tiles_along

SUFFIXES = (".pth", ".safetensors")
"""Endings, in lower case, of the files that are tried."""
OVERLAP = 32
"""Least overlap of neighbouring tiles, in LR pixels."""


def other_upscaler(path: Path, device: str = "cpu", tile: int = LARGEST_TILE) -> Method:
    """An upscaler from its published file, for `evaluate`.

    Images with more LR pixels than a tile of side `tile` are upscaled in tiles that overlap by
    `OVERLAP` or more and are blended there. Raises UserError as `load_other` does.
    """
    network = load_other(path, device)
    sizes = network.size_requirements
    return Method(
        _Tiled(network, torch.device(device), tile),
        {
            "kind": f"spandrel {network.architecture.name}",
            "fingerprint": sha256_of(path),
            "spandrel": metadata.version("spandrel"),
            "device": device_name(device),
            "padding": {"multiple": sizes.multiple_of, "minimum": sizes.minimum},
        },
        tile=tile,
        overlap=OVERLAP,
    )


def load_other(path: Path, device: str = "cpu") -> Any:
    """spandrel's `ImageModelDescriptor` of a published file; code in the file is never run.

    Raises UserError where `spandrel` is missing, or the file holds no network that makes RGB images
    four times as large.
    """
    try:
        import spandrel  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: spandrel is not installed; `pip install tvqrap[evaluation]` brings it"
        ) from None
    state = read_state_dict(path)
    try:
        found = spandrel.ModelLoader(device=device).load_from_state_dict(
            spandrel.canonicalize_state_dict(state)
        )
    except Exception as error:  # an architecture's own code raises anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"{path}: no upscaler that spandrel knows ({reason})") from None
    channels = (getattr(found, "input_channels", None), getattr(found, "output_channels", None))
    if not isinstance(found, spandrel.ImageModelDescriptor) or channels != (3, 3):
        raise UserError(
            f"{path}: {found.architecture.name} with {channels[0]} channels in and {channels[1]} "
            "out, expected an upscaler of RGB images"
        )
    if found.scale != SCALE:
        raise UserError(f"{path}: {found.architecture.name} of scale {found.scale}, expected 4")
    return found.eval()


class _Tiled:
    """Runs a network on a whole image, or in tiles where it has more pixels than a tile."""

    def __init__(self, network: Any, device: torch.device, tile: int) -> None:
        self.network = network
        self.device = device
        self.tile = tile

    def __call__(self, lr: NDArray[np.uint8]) -> NDArray[np.uint8]:
        image = torch.from_numpy(np.array(lr)).permute(2, 0, 1)[None].float() / 255
        height, width = lr.shape[:2]
        overlap = min(OVERLAP, self.tile // 2)
        tile = self.tile if height * width > self.tile**2 else max(height, width)
        rows, columns = (tiles_along(side, tile, overlap, 1) for side in (height, width))
        whole = torch.zeros(3, SCALE * height, SCALE * width)
        for top, down in zip(rows.starts, rows.weights(), strict=True):
            for left, across in zip(columns.starts, columns.weights(), strict=True):
                part = image[..., top : top + rows.size, left : left + columns.size]
                weights = torch.from_numpy(down)[:, None] * torch.from_numpy(across)
                high, wide = weights.shape
                whole[:, SCALE * top :, SCALE * left :][:, :high, :wide] += (
                    self._run(part) * weights
                )
        levels = (whole * 255).clamp(0, 255).round().byte()
        return levels.permute(1, 2, 0).contiguous().numpy()

    @torch.inference_mode()
    def _run(self, part: Tensor) -> Tensor:
        made = self.network(part.to(self.device))[0].float().cpu()
        if not made.isfinite().all():
            raise ValueError("the model gives values that are not finite")
        return made
