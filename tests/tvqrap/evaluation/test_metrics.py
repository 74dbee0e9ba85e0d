"""Metrics: equal to pyiqa called by hand and to references of their own, honest about failures."""

import numpy as np
import pytest
import torch

from tvqrap.evaluation import metrics
from tvqrap.evaluation.metrics import METRICS, Score, Scorer


def pair(size: int = 64) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    hr = rng.integers(0, 256, (size, size + 8, 3)).astype(np.float64)
    hr = (hr + np.roll(hr, 1, 0) + np.roll(hr, 1, 1)) / 3
    noisy = np.clip(hr + rng.normal(0, 12, hr.shape), 0, 255)
    return noisy.round().astype(np.uint8), hr.round().astype(np.uint8)


def luma(image: np.ndarray) -> np.ndarray:
    """Y of ITU-R BT.601, 16 to 235, in float64."""
    return image.astype(np.float64) @ np.array([65.481, 128.553, 24.966]) / 255 + 16


def filtered(image: np.ndarray) -> np.ndarray:
    x = np.arange(11) - 5
    kernel = np.exp(-(x**2) / (2 * 1.5**2))
    kernel /= kernel.sum()
    windows = np.lib.stride_tricks.sliding_window_view(image, (11, 11))
    return np.einsum("hwij,i,j->hw", windows, kernel, kernel)


def ssim_y(image: np.ndarray, reference: np.ndarray) -> float:
    """SSIM of Wang et al. 2004: Gaussian window 11, sigma 1.5, only where the window fits."""
    a, b = luma(image), luma(reference)
    mean_a, mean_b = filtered(a), filtered(b)
    var_a, var_b = filtered(a * a) - mean_a**2, filtered(b * b) - mean_b**2
    covariance = filtered(a * b) - mean_a * mean_b
    c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
    contrast = np.maximum((2 * covariance + c2) / (var_a + var_b + c2), 0)
    return float(((2 * mean_a * mean_b + c1) / (mean_a**2 + mean_b**2 + c1) * contrast).mean())


def value(score: Score) -> float:
    assert score.value is not None, score.reason
    return score.value


def test_psnr_and_ssim_equal_a_float64_reference() -> None:
    image, hr = pair()
    scorer = Scorer(["psnr_y", "ssim_y"])
    scores = scorer.score(image, scorer.reference(hr))
    psnr = 10 * np.log10(255**2 / np.mean((luma(image) - luma(hr)) ** 2))
    assert value(scores["psnr_y"]) == pytest.approx(psnr, abs=0.01)
    assert value(scores["ssim_y"]) == pytest.approx(ssim_y(image, hr), abs=1e-4)


def test_every_metric_equals_pyiqa_by_hand() -> None:
    import pyiqa

    from tvqrap.perceptual import stlpips_weights

    image, hr = pair(192)
    scorer = Scorer(list(METRICS))
    assert scorer.missing == {}
    scores = scorer.score(image, scorer.reference(hr))
    a, b = (torch.from_numpy(x).permute(2, 0, 1)[None] / 255 for x in (image, hr))
    for name, metric in METRICS.items():
        options = dict(metric.options)
        if name in ("stlpips_alex", "stlpips_vgg"):
            backbone = "alex" if name == "stlpips_alex" else "vgg"
            options["pretrained_model_path"] = str(stlpips_weights(backbone))
        by_hand = pyiqa.create_metric(metric.pyiqa, device=torch.device("cpu"), **options)
        expected = float(by_hand(a, b) if metric.reference else by_hand(a))
        assert value(scores[name]) == pytest.approx(expected, abs=1e-5), name
        assert by_hand.lower_better == (metric.better == "lower"), name
        assert (by_hand.metric_mode == "FR") == metric.reference, name


def test_a_missing_metric_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metrics, "pyiqa_version", lambda: None)
    image, hr = pair()
    scorer = Scorer(["psnr_y", "stlpips_alex"])
    assert "pip install tvqrap[evaluation]" in scorer.missing["psnr_y"]
    scores = scorer.score(image, scorer.reference(hr))
    assert scores["psnr_y"].value is None and "pyiqa is not installed" in scores["psnr_y"].reason
    assert scores["stlpips_alex"].value is not None


def test_what_has_no_score_has_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    image, hr = pair()
    scorer = Scorer(["psnr_y", "piqe"])
    assert scorer.score(image, None)["psnr_y"] == Score(None, "needs HR")
    assert scorer.score(image, None)["piqe"].value is not None
    smaller = scorer.score(image[:-4], scorer.reference(hr))
    assert smaller["psnr_y"] == Score(None, "72x60 image against 72x64 HR")

    def broken(image: torch.Tensor, reference: object) -> torch.Tensor:
        raise RuntimeError("out of order\nsecond line")

    monkeypatch.setitem(scorer._metrics, "psnr_y", lambda image, reference: torch.tensor(np.nan))
    monkeypatch.setitem(scorer._metrics, "piqe", broken)
    scores = scorer.score(image, scorer.reference(hr))
    assert scores["psnr_y"] == Score(None, "gave nan")
    assert scores["piqe"] == Score(None, "RuntimeError: out of order")
