"""Computing metrics of images, on the CPU.

ST-LPIPS comes from `tvqrap.losses`: it equals pyiqa's, caches the features of a reference, and
reads its weights without unpickling. The grid metric comes from there too. All others are pyiqa's.
"""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvqrap.config.evaluation import MetricName
from tvqrap.evaluation.metrics.pyiqa import build_metric, pyiqa_version
from tvqrap.evaluation.metrics.registry import METRICS, Score, one_line
from tvqrap.evaluation.metrics.weights import find_weights, sha256_of
from tvqrap.losses.blockiness import grid_strength
from tvqrap.losses.perceptual import PerceptualDistance
from tvqrap.losses.perceptual_weights import stlpips, stlpips_weights
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class Reference:
    """An HR image, with what the metrics computed of it once."""

    pixels: NDArray[np.uint8]
    image: Tensor
    features: dict[str, list[Tensor]]
    unusable: dict[str, str]
    """By metric: why there are no features."""


class Scorer:
    """Computes chosen metrics; a metric that cannot be had is kept with its reason.

    May be used from several threads at once.
    """

    def __init__(self, names: Sequence[MetricName], weights: Path | None = None) -> None:
        """Builds the metrics; `weights` is a folder of their files, in place of the usual ones."""
        self.names = tuple(names)
        self.missing: dict[str, str] = {}
        """Metrics that no image can be given, and why."""
        self.files: dict[str, dict[str, str]] = {}
        """By metric: SHA-256 of its files of weights, by name."""
        self._metrics: dict[str, Callable[[Tensor, Reference | None], Tensor]] = {}
        self._of_set: dict[str, Callable[..., Any]] = {}
        self._perceptual: dict[str, PerceptualDistance] = {}
        for name in self.names:
            try:
                if name == "stlpips_alex" or name == "stlpips_vgg":
                    self._add_stlpips(name)
                elif name == "grid":
                    self._metrics[name] = lambda image, _: grid_strength(image * 2 - 1)
                else:
                    self._add_pyiqa(name, weights)
            except UserError as error:
                self.missing[name] = str(error)
            except Exception as error:  # whatever a metric's own code raises
                self.missing[name] = one_line(error)

    @property
    def of_images(self) -> tuple[MetricName, ...]:
        """The metrics that each image is given; the others are of the whole set."""
        return tuple(name for name in self.names if not METRICS[name].of_set)

    def protocol(self) -> dict[str, Any]:
        """By metric: pyiqa's name and options, and the fingerprints of its weights."""
        return {
            name: {
                "pyiqa": METRICS[name].pyiqa,
                "options": METRICS[name].options,
                **({"weights": self.files[name]} if name in self.files else {}),
            }
            for name in self.names
        }

    def _add_stlpips(self, name: Literal["stlpips_alex", "stlpips_vgg"]) -> None:
        backbone: Literal["alex", "vgg"] = "alex" if name == "stlpips_alex" else "vgg"
        distance = stlpips(backbone)
        path = stlpips_weights(backbone)
        self.files[name] = {path.name: sha256_of(path)}
        self._perceptual[name] = distance

        def measure(image: Tensor, reference: Reference | None) -> Tensor:
            assert reference is not None
            return distance(image * 2 - 1, reference.features[name])

        self._metrics[name] = measure

    def _add_pyiqa(self, name: MetricName, weights: Path | None) -> None:
        metric = METRICS[name]
        files = find_weights(name, weights) if pyiqa_version() is not None else {}
        network = build_metric(metric, files)
        if files:
            self.files[name] = {file: sha256_of(path) for file, path in files.items()}
        if metric.of_set:
            self._of_set[name] = network
            return
        alone: AbstractContextManager[Any] = Lock() if metric.one_at_a_time else nullcontext()

        def measure(image: Tensor, reference: Reference | None) -> Tensor:
            with alone:
                if reference is None or not metric.reference:
                    return network(image)
                return network(image, reference.image)

        self._metrics[name] = measure

    def reference(self, pixels: NDArray[np.uint8]) -> Reference:
        """Prepares an HR image, uint8 (H, W, 3), for any number of `score` calls.

        A metric that cannot take the image says so when it is asked.
        """
        image = _unit_tensor(pixels)
        features, unusable = {}, {}
        with torch.inference_mode():
            for name, distance in self._perceptual.items():
                try:
                    features[name] = distance.features(image * 2 - 1)
                except Exception as error:  # too small, or too large for the memory
                    unusable[name] = one_line(error)
        return Reference(pixels, image, features, unusable)

    def score(
        self, pixels: NDArray[np.uint8], reference: Reference | None, no_hr: str = ""
    ) -> dict[str, Score]:
        """Scores one image, uint8 (H, W, 3), by every metric; never raises for an image's sake.

        Without a reference, or with one of another size, the metrics that need it say so; `no_hr`
        is why there is none.
        """
        image = _unit_tensor(pixels)
        scores: dict[str, Score] = {}
        for name in self.of_images:
            if name in self.missing:
                scores[name] = Score(None, self.missing[name])
                continue
            if METRICS[name].reference:
                if reference is None:
                    scores[name] = Score(None, no_hr or "needs HR")
                    continue
                if reference.pixels.shape != pixels.shape:
                    scores[name] = Score(None, _size_reason(pixels, reference.pixels))
                    continue
                if name in reference.unusable:
                    scores[name] = Score(None, reference.unusable[name])
                    continue
            try:
                with torch.inference_mode():
                    value = float(self._metrics[name](image, reference).reshape(()))
                finite = math.isfinite(value)
                scores[name] = Score(value) if finite else Score(None, f"gave {value}")
            except Exception as error:  # whatever a metric's own code raises
                scores[name] = Score(None, one_line(error))
        return scores

    def score_set(self, made: Path, hr: Path) -> dict[str, Score]:
        """Scores a folder of images against a folder of HR images by the metrics of whole sets."""
        scores: dict[str, Score] = {}
        for name in self.names:
            if not METRICS[name].of_set:
                continue
            if name in self.missing:
                scores[name] = Score(None, self.missing[name])
                continue
            try:
                value = float(self._of_set[name](str(made), str(hr), num_workers=0, verbose=False))
                finite = math.isfinite(value)
                scores[name] = Score(value) if finite else Score(None, f"gave {value}")
            except Exception as error:  # whatever a metric's own code raises
                scores[name] = Score(None, one_line(error))
        return scores


def _unit_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) as float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def _size_reason(ours: NDArray[np.uint8], theirs: NDArray[np.uint8]) -> str:
    (h, w), (hr_h, hr_w) = ours.shape[:2], theirs.shape[:2]
    return f"{w}x{h} image against {hr_w}x{hr_h} HR"
