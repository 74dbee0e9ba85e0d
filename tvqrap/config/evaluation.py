"""The `evaluation:` section of params.yaml."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, Strict, field_validator

from tvqrap.config.base import Settings

MetricName = Literal[
    "psnr_y",
    "ssim_y",
    "psnr_rgb",
    "ssim_rgb",
    "ms_ssim",
    "cw_ssim",
    "fsim",
    "vsi",
    "gmsd",
    "vif",
    "nlpd",
    "mad",
    "stlpips_alex",
    "stlpips_vgg",
    "piqe",
    "grid",
    "lpips",
    "dists",
    "clipiqa",
    "musiq",
    "maniqa",
    "maniqa_pipal",
    "niqe",
    "fid",
]


class EvaluationSettings(Settings):
    """Metrics, intervals and pictures of an evaluation."""

    metrics: Annotated[tuple[MetricName, ...], Strict(False), Field(min_length=1)]
    """Metrics, in the order of the columns."""
    confidence: Annotated[float, Field(gt=0, lt=1)]
    """Confidence of the intervals and verdicts (Student's t over photographs)."""
    pictures: PositiveInt
    """Photographs shown on the contact sheet."""
    pad_multiple: PositiveInt
    """LR images are padded to multiples of this many pixels before they are upscaled."""

    @field_validator("metrics")
    @classmethod
    def _once(cls, metrics: tuple[MetricName, ...]) -> tuple[MetricName, ...]:
        for name in metrics:
            if metrics.count(name) > 1:
                raise ValueError(f"{name} is listed more than once")
        return metrics
