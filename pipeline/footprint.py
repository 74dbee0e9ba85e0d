"""How many bytes pairs and their tokens take on disk, before there are any."""

from dataclasses import dataclass

from pipeline.settings import SetSettings
from pipeline.token_plan import Workload
from tvqrap.architecture import SCALE, Architecture

HR_PNG = 1.8
"""Bytes a pixel of HR crops: 1.46 to 1.69 for the sets of the profile `paper` cut from the
photographs of this project, 1.83 to 1.89 from ImageNet's (200 crops of each set). A teacher's
pictures take as many (Real-ESRGAN x4plus, 800 crops: 1.60 beside 1.60 of HR)."""

LR_PNG = 2.0
"""Bytes a pixel of LR images, which hold noise: 1.73 to 2.14 in the same sets."""

_RECORD, _RECORD_OF_VARIANT = 80, 440
_BLOCK = 512
"""Bytes of a tar header, and what a member's content is filled up to."""


@dataclass(frozen=True)
class Footprint:
    """Bytes of one set; the PNGs in them are an estimate from what such crops have taken."""

    pairs: int
    tokens: int
    """With the LR images, which come along."""


def footprint(name: str, settings: SetSettings, architecture: Architecture) -> Footprint:
    """What the set called `name` takes as shards of pairs and of tokens."""
    pictures = 1 + (settings.variants if settings.target == "both" else 0)
    hr, lr = settings.size**2, (settings.size // SCALE) ** 2
    carried = settings.variants * _member(LR_PNG * lr)
    carried += _member(_RECORD + _RECORD_OF_VARIANT * settings.variants)
    tokens = Workload(name, settings.samples, settings.size, None).token_bytes(architecture)
    return Footprint(
        pairs=settings.samples * (pictures * _member(HR_PNG * hr) + carried),
        tokens=settings.samples * (tokens + carried),
    )


def _member(content: float) -> int:
    """Bytes of a file in a tar: on average half a block is filled up."""
    return round(_BLOCK + content + _BLOCK / 2)
