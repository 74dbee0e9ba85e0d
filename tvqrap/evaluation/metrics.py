"""Image quality metrics: what they are called, which way is better, and how they are computed.

Only metrics that need no download are here. All are pyiqa's, on 8-bit RGB images scaled to [0, 1];
ST-LPIPS is computed by `tvqrap.perceptual`, which gives the same numbers, lets the features of a
reference be used again, and reads its weights without unpickling.

Importing this module needs neither torch nor pyiqa.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from importlib import metadata
from typing import TYPE_CHECKING, Any, Literal, get_args

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

MetricName = Literal[
    "psnr_y",
    "ssim_y",
    "ms_ssim",
    "fsim",
    "vsi",
    "gmsd",
    "vif",
    "nlpd",
    "stlpips_alex",
    "stlpips_vgg",
    "piqe",
]


@dataclass(frozen=True)
class Metric:
    """One metric, as it is computed and shown."""

    title: str
    pyiqa: str
    """The name that pyiqa knows it by."""
    better: Literal["higher", "lower"]
    digits: int
    """Decimals that are worth showing."""
    options: dict[str, Any] = field(default_factory=dict)
    """Options given to pyiqa; all others are its defaults."""
    reference: bool = True
    """Whether it compares with HR; a metric without looks at the image alone."""


_ON_Y = {"test_y_channel": True, "color_space": "ycbcr"}

METRICS: dict[MetricName, Metric] = {
    "psnr_y": Metric("PSNR-Y", "psnr", "higher", 2, _ON_Y),
    "ssim_y": Metric("SSIM-Y", "ssim", "higher", 4, _ON_Y),
    "ms_ssim": Metric("MS-SSIM", "ms_ssim", "higher", 4),
    "fsim": Metric("FSIM", "fsim", "higher", 4),
    "vsi": Metric("VSI", "vsi", "higher", 4),
    "gmsd": Metric("GMSD", "gmsd", "lower", 4),
    "vif": Metric("VIF", "vif", "higher", 4),
    "nlpd": Metric("NLPD", "nlpd", "lower", 4),
    "stlpips_alex": Metric("ST-LPIPS alex", "stlpips", "lower", 4),
    "stlpips_vgg": Metric("ST-LPIPS vgg", "stlpips-vgg", "lower", 4),
    "piqe": Metric("PIQE", "piqe", "lower", 2, reference=False),
}
assert tuple(METRICS) == get_args(MetricName)


@dataclass(frozen=True)
class Score:
    """What a metric said of one image: a finite number, or why there is none."""

    value: float | None
    reason: str = ""


def pyiqa_version() -> str | None:
    """The version of the installed pyiqa; None where it is missing."""
    try:
        return metadata.version("pyiqa")
    except metadata.PackageNotFoundError:
        return None


@dataclass(frozen=True)
class Reference:
    """An HR image, with what the metrics computed of it once."""

    pixels: "NDArray[np.uint8]"
    image: "Tensor"
    features: "dict[str, list[Tensor]]"


class Scorer:
    """Computes chosen metrics on the CPU; a metric that cannot be had is kept with its reason.

    May be used from several threads at once.
    """

    def __init__(self, names: Sequence[MetricName]) -> None:
        self.names = tuple(names)
        self.missing: dict[str, str] = {}
        """Metrics that no image can be given, and why."""
        self._metrics: dict[str, Callable[[Tensor, Reference | None], Tensor]] = {}
        self._perceptual: dict[str, Any] = {}
        for name in self.names:
            try:
                if name == "stlpips_alex" or name == "stlpips_vgg":
                    self._add_stlpips(name)
                else:
                    self._add_pyiqa(name)
            except Exception as error:  # whatever a metric's own code raises
                self.missing[name] = _reason(error)

    def _add_stlpips(self, name: Literal["stlpips_alex", "stlpips_vgg"]) -> None:
        from tvqrap.perceptual import stlpips

        distance = stlpips("alex" if name == "stlpips_alex" else "vgg")
        self._perceptual[name] = distance

        def measure(image: "Tensor", reference: Reference | None) -> "Tensor":
            assert reference is not None
            return distance(image * 2 - 1, reference.features[name])

        self._metrics[name] = measure

    def _add_pyiqa(self, name: MetricName) -> None:
        if pyiqa_version() is None:
            raise ModuleNotFoundError(
                "pyiqa is not installed; `pip install tvqrap[evaluation]` brings it"
            )
        import pyiqa
        import torch

        metric = METRICS[name]
        network = pyiqa.create_metric(metric.pyiqa, device=torch.device("cpu"), **metric.options)

        def measure(image: "Tensor", reference: Reference | None) -> "Tensor":
            if reference is None or not metric.reference:
                return network(image)
            return network(image, reference.image)

        self._metrics[name] = measure

    def reference(self, pixels: "NDArray[np.uint8]") -> Reference:
        """Prepares an HR image, uint8 (H, W, 3), for any number of `score` calls."""
        import torch

        image = _unit_tensor(pixels)
        with torch.inference_mode():
            features = {
                name: distance.features(image * 2 - 1)
                for name, distance in self._perceptual.items()
            }
        return Reference(pixels, image, features)

    def score(self, pixels: "NDArray[np.uint8]", reference: Reference | None) -> dict[str, Score]:
        """Scores one image, uint8 (H, W, 3), by every metric; never raises for an image's sake.

        Without a reference, or with one of another size, the metrics that need it say so.
        """
        import torch

        image = _unit_tensor(pixels)
        scores: dict[str, Score] = {}
        for name in self.names:
            if name in self.missing:
                scores[name] = Score(None, self.missing[name])
                continue
            if METRICS[name].reference:
                if reference is None:
                    scores[name] = Score(None, "needs HR")
                    continue
                if reference.pixels.shape != pixels.shape:
                    scores[name] = Score(None, _size_reason(pixels, reference.pixels))
                    continue
            try:
                with torch.inference_mode():
                    value = float(self._metrics[name](image, reference).reshape(()))
                finite = math.isfinite(value)
                scores[name] = Score(value) if finite else Score(None, f"gave {value}")
            except Exception as error:  # whatever a metric's own code raises
                scores[name] = Score(None, _reason(error))
        return scores


def _unit_tensor(pixels: "NDArray[np.uint8]") -> "Tensor":
    """uint8 (H, W, 3) as float32 (1, 3, H, W) in [0, 1]."""
    import numpy as np
    import torch

    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def _size_reason(ours: "NDArray[np.uint8]", theirs: "NDArray[np.uint8]") -> str:
    (h, w), (hr_h, hr_w) = ours.shape[:2], theirs.shape[:2]
    return f"{w}x{h} image against {hr_w}x{hr_h} HR"


def _reason(error: Exception) -> str:
    text = str(error).strip()
    return f"{type(error).__name__}: {text.splitlines()[0]}" if text else type(error).__name__
