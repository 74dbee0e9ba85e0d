"""Computes metrics of images, on the CPU.

ST-LPIPS and the grid metric come from `tvqrap.losses`, all others from pyiqa. Our ST-LPIPS equals
pyiqa's, caches the features of a reference, and unpickles no code.
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
from tvqrap.evaluation.metrics.registry import METRICS, Score
from tvqrap.evaluation.metrics.weights import find_weights, sha256_of
from tvqrap.losses.blockiness import grid_strength
from tvqrap.losses.perceptual import PerceptualDistance
from tvqrap.losses.perceptual_weights import stlpips, stlpips_weights
from tvqrap.runtime.errors import UserError, one_line


@dataclass(frozen=True)
class Reference:
    """An HR image, with the features that metrics compute of it once."""

    pixels: NDArray[np.uint8]
    image: Tensor
    features: dict[str, list[Tensor]]
    unusable: dict[str, str]
    """By metric: the reason why there are no features."""


class Scorer:
    """Computes chosen metrics; a metric that is missing is kept with the reason.

    It is thread-safe.
    """

    def __init__(self, names: Sequence[MetricName], weights: Path | None = None) -> None:
        """Builds the metrics; `weights` is a folder of their files, instead of the usual ones."""
        self.names = tuple(names)
        self.missing: dict[str, str] = {}
        """Metrics that cannot be computed, with the reason."""
        self.files: dict[str, dict[str, str]] = {}
        """By metric and file name: SHA-256 of the files of weights."""
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
            except Exception as error:  # a metric's own code may raise anything
                self.missing[name] = one_line(error)

    @property
    def of_images(self) -> tuple[MetricName, ...]:
        """The metrics of single images; the others are of the whole set."""
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

        A metric that fails on the image has its reason in each of these scores.
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
        """Scores one image, uint8 (H, W, 3), by every metric; an image's fault never raises.

        Without a reference, or with one of another size, scores that need it have a reason instead;
        `no_hr` is the reason why there is no reference.
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
            except Exception as error:  # a metric's own code may raise anything
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
            except Exception as error:  # a metric's own code may raise anything
                scores[name] = Score(None, one_line(error))
        return scores


def _unit_tensor(pixels: NDArray[np.uint8]) -> Tensor:
    """uint8 (H, W, 3) as float32 (1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.ascontiguousarray(pixels.transpose(2, 0, 1)))[None].float() / 255


def _size_reason(image: NDArray[np.uint8], hr: NDArray[np.uint8]) -> str:
    (h, w), (hr_h, hr_w) = image.shape[:2], hr.shape[:2]
    return f"{w}x{h} image against {hr_w}x{hr_h} HR"
