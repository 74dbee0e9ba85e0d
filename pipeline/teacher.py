"""A teacher: an upscaler whose outputs serve a smaller network as targets.

The teacher's output is a function of the LR image, unlike HR: a network can learn its sharpness
from plain losses (knowledge distillation, Hinton et al., 2015). Any upscaler can teach: a model
folder of this project, or another project's file that spandrel reads.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from pipeline.config import PairsSettings, TeacherPrecision
from tvqrap.runtime.errors import UserError

if TYPE_CHECKING:  # torch takes seconds to import, and most sets have no teacher
    from torch import Tensor

    from tvqrap.networks.upscaler import UpscalerNetwork

    Network = Callable[[Tensor], Tensor]

Teach = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""uint8 LR image (H, W, 3) RGB to the teacher's output (4H, 4W, 3)."""


@dataclass(frozen=True)
class Teacher:
    """A teacher that workers load from its path and know by its weights."""

    path: Path
    fingerprint: str
    """SHA-256 (hex) over its tensors."""
    precision: TeacherPrecision

    def load(self) -> Teach:
        """The teacher on the CPU with one arithmetic thread: equal LR images give equal outputs.

        It sees whole images, no tiles. Raises UserError where the path holds another teacher than
        the driver opened.
        """
        network, fingerprint = _read(self.path)
        if fingerprint != self.fingerprint:
            raise UserError(
                f"{self.path}: found a teacher {fingerprint[:12]}, expected "
                f"{self.fingerprint[:12]}, its fingerprint at the start of make_pairs"
            )
        return partial(_taught, network, self.precision)


def teacher_of(pairs: PairsSettings) -> Teacher | None:
    """The teacher that `pairs.teacher` names; None where all sets have `target: photo`.

    Raises UserError where it cannot be read or does not enlarge RGB images four times.
    """
    if all(chosen.target == "photo" for chosen in pairs.sets.values()):
        return None
    path = Path(pairs.teacher).resolve()
    if not path.exists():
        raise UserError(f"pairs.teacher: found {pairs.teacher}, which does not exist")
    return Teacher(path, _read(path)[1], pairs.teacher_precision)


def _read(path: Path) -> "tuple[Network, str]":
    """The network at a path, for float32 (1, 3, H, W) in [0, 1], and its fingerprint."""
    import torch

    from tvqrap.pretrained.folder import fingerprint
    from tvqrap.pretrained.other import load_other
    from tvqrap.pretrained.upscaler import load_upscaler

    torch.set_num_threads(1)
    if path.is_dir():
        own = load_upscaler(path)
        return partial(_upscaled, own), fingerprint(own)
    other = load_other(path)
    return other, fingerprint(other.model)


def _upscaled(network: "UpscalerNetwork", lr: "Tensor") -> "Tensor":
    """An image of any size through one of our networks, which take and give [-1, 1]."""
    from tvqrap.images.padding import crop_upscaled, pad_to_multiple

    padded = pad_to_multiple(lr * 2 - 1, network.architecture.lr_multiple)
    return crop_upscaled(network(padded), *lr.shape[2:]) / 2 + 0.5


def _taught(
    network: "Network", precision: TeacherPrecision, lr: NDArray[np.uint8]
) -> NDArray[np.uint8]:
    import torch

    from tvqrap.runtime.device import autocast

    with torch.inference_mode(), autocast(torch.device("cpu"), precision):
        made = network(torch.from_numpy(lr).permute(2, 0, 1)[None].float() / 255)[0].float()
    if not made.isfinite().all():
        raise UserError("pairs.teacher: its output has values that are not finite")
    return (made * 255).clamp(0, 255).round().byte().permute(1, 2, 0).contiguous().numpy()
