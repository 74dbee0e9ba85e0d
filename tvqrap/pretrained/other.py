"""Upscalers of other projects, which `spandrel` recognises by their tensors."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tvqrap.architecture import SCALE
from tvqrap.runtime.errors import UserError, first_line
from tvqrap.runtime.state_dict import read_state_dict
from tvqrap.runtime.text import printable

SUFFIXES = (".pth", ".safetensors")
"""Endings, in lower case, of the files that are tried."""
_NUMBERS = 64
"""Layer number that a file of any number of tensors may have."""


class OtherNetwork(nn.Module):
    """A network of another project that takes and gives what ours do: (N, 3, H, W) in [-1, 1].

    It pads images to the sizes that it needs, and crops its output.
    """

    def __init__(self, descriptor: Any) -> None:
        """Takes spandrel's `ImageModelDescriptor`."""
        super().__init__()
        self.descriptor = descriptor
        self.model = descriptor.model
        """Registered, so that `to` and `parameters` find it."""

    @property
    def name(self) -> str:
        """Name of the architecture, as spandrel has it."""
        return str(self.descriptor.architecture.name)

    def forward(self, lr: Tensor) -> Tensor:
        # One at a time, without channels_last: some architectures take no batch, or need `view`.
        images = (image[None].contiguous() for image in lr / 2 + 0.5)
        return torch.cat([self.descriptor(image) for image in images]) * 2 - 1


def load_other(path: Path, device: str | torch.device = "cpu") -> Any:
    """spandrel's `ImageModelDescriptor` of a published file; code in the file is never run.

    Raises UserError where `spandrel` is missing, or the file holds no network that makes RGB images
    four times as large.
    """
    try:
        import spandrel  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise UserError(
            f"{path}: spandrel is not installed; `pip install spandrel` brings it"
        ) from None
    state = read_state_dict(path)
    _check_numbers(path, state)
    try:
        found = spandrel.ModelLoader(device=device).load_from_state_dict(
            spandrel.canonicalize_state_dict(state)
        )
    except Exception as error:  # an architecture's own code raises anything
        raise UserError(f"{path}: no upscaler that spandrel knows ({first_line(error)})") from None
    channels = (getattr(found, "input_channels", None), getattr(found, "output_channels", None))
    if not isinstance(found, spandrel.ImageModelDescriptor) or channels != (3, 3):
        raise UserError(
            f"{path}: {found.architecture.name} with {channels[0]} channels in and {channels[1]} "
            "out, expected an upscaler of RGB images"
        )
    if found.scale != SCALE:
        raise UserError(f"{path}: {found.architecture.name} of scale {found.scale}, expected 4")
    return found.eval()


def _check_numbers(path: Path, state: Mapping[str, object]) -> None:
    """Raises UserError for a layer number that no file of so few tensors has.

    spandrel builds as many layers as the largest number says, before it looks at the tensors.
    """
    allowed = max(_NUMBERS, len(state))
    for name in state:
        largest = max((int(part) for part in name.split(".") if part.isdecimal()), default=0)
        if largest > allowed:
            raise UserError(
                f"{path}: {printable(name)} numbers a layer {largest}, expected at most {allowed} "
                f"of {len(state)} tensors"
            )
