"""The image quality metrics: names, direction, options and requirements.

All but `grid` are pyiqa's, on 8-bit RGB images scaled to [0, 1], with pyiqa's default options
unless others are given. They are the metrics of Tables 1, 2, 6 and 7 of the paper, and those that
need no weights besides the packages'. Importing this module needs neither torch nor pyiqa.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from tvqrap.config.evaluation import MetricName


@dataclass(frozen=True)
class Metric:
    """How a metric is computed and shown."""

    title: str
    pyiqa: str | None
    """Name in pyiqa; None for our own metric."""
    better: Literal["higher", "lower"]
    digits: int
    """Decimals that are shown."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options for pyiqa; all others keep their defaults."""
    reference: bool = True
    """Whether it compares with HR; a no-reference metric scores the image alone."""
    weights: tuple[str, ...] = ()
    """Files of weights that no package contains, see `tvqrap.evaluation.metrics.weights`."""
    of_set: bool = False
    """Whether it is one number for a whole set of images."""
    one_at_a_time: bool = False
    """Whether pyiqa's network keeps state in a forward pass and so is not thread-safe."""
    packages: tuple[str, ...] = ()
    """Packages besides pyiqa and torch that its network comes from."""


_ON_Y = {"test_y_channel": True, "color_space": "ycbcr"}

_ALEXNET, _VGG16 = "alexnet-owt-7be5be79.pth", "vgg16-397923af.pth"

METRICS: dict[MetricName, Metric] = {
    "psnr_y": Metric("PSNR-Y", "psnr", "higher", 2, _ON_Y),
    "ssim_y": Metric("SSIM-Y", "ssim", "higher", 4, _ON_Y),
    "psnr_rgb": Metric("PSNR-RGB", "psnr", "higher", 2),
    "ssim_rgb": Metric("SSIM-RGB", "ssimc", "higher", 4),
    "ms_ssim": Metric("MS-SSIM", "ms_ssim", "higher", 4),
    "cw_ssim": Metric("CW-SSIM", "cw_ssim", "higher", 4),
    "fsim": Metric("FSIM", "fsim", "higher", 4),
    "vsi": Metric("VSI", "vsi", "higher", 4),
    "gmsd": Metric("GMSD", "gmsd", "lower", 4),
    "vif": Metric("VIF", "vif", "higher", 4),
    "nlpd": Metric("NLPD", "nlpd", "lower", 4),
    "mad": Metric("MAD", "mad", "lower", 2),
    "stlpips_alex": Metric("ST-LPIPS alex", "stlpips", "lower", 4),
    "stlpips_vgg": Metric("ST-LPIPS vgg", "stlpips-vgg", "lower", 4),
    "piqe": Metric("PIQE", "piqe", "lower", 2, reference=False),
    "grid": Metric("Grid", None, "lower", 3, reference=False),
    "lpips": Metric(
        "LPIPS",
        "lpips",
        "lower",
        4,
        weights=("LPIPS_v0.1_alex-df73285e.pth", _ALEXNET),
        packages=("torchvision",),
    ),
    "dists": Metric(
        "DISTS",
        "dists",
        "lower",
        4,
        weights=("DISTS_weights-f5e65c96.pth", _VGG16),
        packages=("torchvision",),
    ),
    "clipiqa": Metric("CLIP-IQA", "clipiqa", "higher", 4, reference=False, weights=("RN50.pt",)),
    "musiq": Metric(
        "MUSIQ", "musiq", "higher", 2, reference=False, weights=("musiq_koniq_ckpt-e95806b9.pth",)
    ),
    "maniqa": Metric(
        "MANIQA",
        "maniqa",
        "higher",
        4,
        reference=False,
        weights=("ckpt_koniq10k.pt",),
        one_at_a_time=True,
        packages=("timm",),
    ),
    "maniqa_pipal": Metric(
        "MANIQA-PIPAL",
        "maniqa-pipal",
        "higher",
        4,
        reference=False,
        weights=("MANIQA_PIPAL-ae6d356b.pth",),
        one_at_a_time=True,
        packages=("timm",),
    ),
    "niqe": Metric(
        "NIQE", "niqe", "lower", 3, reference=False, weights=("niqe_modelparameters.mat",)
    ),
    "fid": Metric(
        "FID",
        "fid",
        "lower",
        2,
        weights=("pt_inception-2015-12-05-6726825d.pth",),
        of_set=True,
        packages=("torchvision",),
    ),
}

assert tuple(METRICS) == get_args(MetricName)

VERDICT: tuple[MetricName, ...] = ("stlpips_vgg", "fsim")
"""The metrics that decide first: a model is better where it is better in both and its images look
better."""


@dataclass(frozen=True)
class Score:
    """A metric's score of one image: a finite number, or the reason why there is none."""

    value: float | None
    reason: str = ""


def without_reference(names: Iterable[MetricName]) -> list[MetricName]:
    """The no-reference metrics among `names`."""
    return [name for name in names if not METRICS[name].reference]
