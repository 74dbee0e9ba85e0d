"""Degradation: what is drawn against the settings, each operation against a plain reference."""

import io
import math
from collections import Counter
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.config import DegradationSettings, SetSettings, SharpenSettings
from pipeline.pairs.degradation import (
    blur,
    degrade,
    draw_kernel,
    draw_preset,
    gaussian_noise,
    jpeg,
    poisson_noise,
    sharpen,
)
from pipeline.pairs.kernels import gaussian_kernel, sinc_kernel
from pipeline.rng import random_stream
from tests.support.pairs import KINDS, PAIRS, TRAIN, texture


def near(found: int, total: int, prob: float) -> bool:
    """Whether a count is within 4.5 standard deviations of its expectation."""
    return abs(found - total * prob) <= 4.5 * math.sqrt(total * prob * (1 - prob)) + 1e-9


def test_kernels_are_drawn_as_the_settings_say(train):
    rng = random_stream("kernels")
    draws = [draw_kernel(train.first.blur, rng) for _ in range(6000)]
    for kernel, record in draws:
        assert kernel.shape == (record["size"],) * 2
        assert kernel.sum() == pytest.approx(1, abs=1e-9)
    records = [record for _, record in draws]
    sizes = Counter(record["size"] for record in records)
    assert set(sizes) == set(range(7, 22, 2))
    assert all(near(count, 6000, 1 / 8) for count in sizes.values())

    kinds = Counter(record["kind"] for record in records)
    assert near(kinds["sinc"], 6000, 0.1)
    for kind, prob in KINDS.items():
        assert near(kinds[kind], 6000, 0.9 * prob), kind

    for record in records:
        if record["kind"] == "sinc":
            assert (1 / 3 if record["size"] < 13 else 0.2) - 1e-4 <= record["cutoff"] <= 1
            continue
        assert len(record["sigma"]) == (2 if record["kind"].endswith("aniso") else 1)
        assert all(0.2 <= sigma <= 3 for sigma in record["sigma"])
    cutoffs = [r["cutoff"] for r in records if r["kind"] == "sinc" and r["size"] >= 13]
    assert min(cutoffs) < 0.25
    assert max(cutoffs) > 0.95
    sigmas = np.array([record["sigma"][0] for record in records if "sigma" in record])
    assert abs(sigmas.mean() - 1.6) < 0.06
    betas = [record["beta"] for record in records if record["kind"].startswith("generalized")]
    assert near(sum(beta < 1 for beta in betas), len(betas), 0.5)
    assert 0.5 <= min(betas) < 0.55
    assert 3.8 < max(betas) <= 4
    rotations = np.array([record["rotation"] for record in records if "rotation" in record])
    assert rotations.min() < -0.97
    assert rotations.max() > 0.97


def test_steps_are_drawn_as_the_settings_say(train):
    hr, total = texture(1, 32, 32), 1500
    records = [degrade(hr, train, random_stream("steps", i)).record for i in range(total)]
    names = [tuple(step["step"] for step in record) for record in records]
    start = ("blur", "resize", "noise", "jpeg")
    assert all(name[:4] == start for name in names)
    rounds = Counter(name[4:-2] for name in names)
    assert set(rounds) == {(), ("resize", "noise"), ("blur", "resize", "noise")}
    assert near(rounds[()], total, 0.5)
    assert near(rounds["resize", "noise"], total, 0.1)
    ends = Counter(name[-2:] for name in names)
    assert set(ends) == {("lr", "jpeg"), ("jpeg", "lr")}
    assert near(ends["lr", "jpeg"], total, 0.5)

    first = [record[1] for record in records]
    assert near(sum(r["scale"] > 1 for r in first), total, 0.2)
    assert near(sum(r["scale"] == 1 for r in first), total, 0.1)
    assert 0.15 <= min(r["scale"] for r in first) < 0.16
    assert 1.45 < max(r["scale"] for r in first) <= 1.5
    assert all(near(n, total, 1 / 3) for n in Counter(r["filter"] for r in first).values())
    assert all(r["size"] == [int(32 * r["scale"])] * 2 for r in first)

    noises = [record[2] for record in records]
    gaussian = [r["sigma"] for r in noises if r["kind"] == "gaussian"]
    poisson = [r["scale"] for r in noises if r["kind"] == "poisson"]
    assert near(len(gaussian), total, 0.5)
    assert len(gaussian) + len(poisson) == total
    assert near(sum(r["gray"] for r in noises), total, 0.4)
    assert abs(np.mean(gaussian) - 15.5) < 1.5
    assert abs(np.mean(poisson) - 1.525) < 0.15

    qualities = [step["quality"] for record in records for step in record if step["step"] == "jpeg"]
    assert (min(qualities), max(qualities)) == (30, 95)
    second = [record[-4] for record, name in zip(records, names, strict=True) if len(name) > 6]
    assert all(r["step"] == "resize" and r["size"] == [int(8 * r["scale"])] * 2 for r in second)
    assert max(r["scale"] for r in second) <= 1.2
    last = [next(step for step in record[-2:] if step["step"] == "lr") for record in records]
    assert near(sum(r["sinc"] is not None for r in last), total, 0.8)


def test_probabilities_of_zero_and_one(train):
    never = TRAIN | {
        "second": None,
        "final": TRAIN["final"] | {"sinc_prob": 0.0, "jpeg_last_prob": 1.0},
        "sharpen": {"weight": 0.5, "size": 51, "sigma": 8.0, "threshold": 10.0},
    }
    settings = DegradationSettings.model_validate(never)
    for index in range(20):
        record = degrade(texture(2, 64, 64), settings, random_stream(index)).record
        names = [step["step"] for step in record]
        assert names == ["sharpen", "blur", "resize", "noise", "jpeg", "lr", "jpeg"]
        assert record[5]["sinc"] is None


def test_result_shape_steps_and_stream(train):
    hr = texture(3, 64, 96)
    one = degrade(hr, train, random_stream("x"), steps=True)
    again = degrade(hr, train, random_stream("x"))
    other = degrade(hr, train, random_stream("y"))
    assert one.image.shape == (16, 24, 3)
    assert one.image.dtype == np.uint8
    assert one.steps is not None
    assert len(one.steps) == len(one.record)
    np.testing.assert_array_equal(one.image, again.image)
    assert one.record == again.record
    assert one.record != other.record
    last = np.rint(np.clip(one.steps[-1], 0, 1) * 255).astype(np.uint8)
    np.testing.assert_array_equal(last, one.image)


@pytest.mark.parametrize("shape", [(30, 32, 3), (32, 30, 3), (32, 32)])
def test_impossible_hr_is_refused(train, shape):
    with pytest.raises(ValueError, match="multiples of 4"):
        degrade(np.zeros(shape, np.uint8), train, random_stream(1))


@pytest.mark.parametrize(
    "kernel",
    [
        gaussian_kernel(9, (1.3, 1.3), 0, 1, "gaussian"),  # separable
        gaussian_kernel(21, (3, 0.4), 0.7, 1, "gaussian"),
        gaussian_kernel(13, (2, 2), 0, 3, "generalized"),
        sinc_kernel(7, 1.5),
    ],
)
def test_blur_against_plain_float64(kernel):
    image = texture(4, 24, 30).astype(np.float32) / 255
    half = len(kernel) // 2
    padded = np.pad(image.astype(np.float64), [(half, half), (half, half), (0, 0)], mode="reflect")
    expected = sum(
        kernel[i, j] * padded[i : i + 24, j : j + 30]
        for i in range(len(kernel))
        for j in range(len(kernel))
    )
    np.testing.assert_allclose(blur(image, kernel), expected, atol=2e-6)


def test_sharpen_against_the_full_two_dimensional_convolution():
    settings = SharpenSettings(weight=0.5, size=51, sigma=8.0, threshold=10.0)
    image = texture(5, 60, 70).astype(np.float32) / 255
    kernel = gaussian_kernel(51, (8, 8), 0, 1, "gaussian")

    def blurred(values: np.ndarray) -> np.ndarray:
        padded = np.pad(values, [(25, 25), (25, 25), (0, 0)], mode="reflect")
        return sum(
            kernel[i, j] * padded[i : i + 60, j : j + 70] for i in range(51) for j in range(51)
        )

    exact = image.astype(np.float64)
    residual = exact - blurred(exact)
    mask = blurred((abs(residual) * 255 > 10).astype(np.float64))
    sharp = np.clip(exact + 0.5 * residual, 0, 1)
    expected = mask * sharp + (1 - mask) * exact
    assert abs(expected - exact).max() > 0.02
    np.testing.assert_allclose(sharpen(image, settings), expected, atol=1e-4)


@pytest.mark.parametrize("gray", [False, True])
def test_gaussian_noise_statistics(gray):
    image = np.full((200, 200, 3), 0.5, np.float32)
    noise = gaussian_noise(image, 10, gray, random_stream("g")) - image
    assert noise.dtype == np.float32
    assert noise.std() * 255 == pytest.approx(10, rel=0.02)
    assert abs(noise.mean()) * 255 < 0.2
    assert (np.ptp(noise, axis=2).max() < 1e-6) == gray


def reference_poisson(image: np.ndarray, rng: np.random.Generator, gray: bool) -> np.ndarray:
    """The usual definition, in float64 and by sorting."""
    base = np.clip(image.astype(np.float64), 0, 1)
    if gray:
        base = (base @ [0.299, 0.587, 0.114])[..., None]
    base = np.round(base * 255) / 255
    peak = 2 ** np.ceil(np.log2(len(np.unique(base))))
    return rng.poisson(base * peak) / peak - base + np.zeros_like(image, np.float64)


@pytest.mark.parametrize("gray", [False, True])
def test_poisson_noise_statistics_per_level(gray):
    image = texture(7, 16, 16).astype(np.float32) / 255 * 0.5 + 0.25  # away from clipping
    ours, theirs = [], []
    for index in range(600):
        ours.append(poisson_noise(image, 0.5, gray, random_stream("ours", index)) - image)
        theirs.append(0.5 * reference_poisson(image, random_stream("theirs", index), gray))
    found, expected = np.stack(ours), np.stack(theirs)
    assert abs(found.mean() - expected.mean()) < 1e-3
    np.testing.assert_allclose(found.std(axis=0).mean(), expected.std(axis=0).mean(), rtol=0.02)
    # Brighter pixels are noisier, as in the reference.
    bright = image.mean(axis=2) > np.median(image.mean(axis=2))
    for part in (bright, ~bright):
        np.testing.assert_allclose(found[:, part].std(), expected[:, part].std(), rtol=0.03)


@pytest.mark.parametrize(("levels", "peak"), [(1, 1), (2, 2), (3, 4), (200, 256)])
def test_poisson_peak_follows_the_number_of_levels(levels, peak):
    values = (np.arange(60 * 60 * 3) % levels + 40).reshape(60, 60, 3).astype(np.float32) / 255
    noise = poisson_noise(values, 1e-3, False, random_stream("p")) - values
    samples = (noise / 1e-3 + values) * peak  # back to the counts
    np.testing.assert_allclose(samples, np.rint(samples), atol=0.02 * peak)


def test_poisson_survives_a_black_image():
    black = np.zeros((8, 8, 3), np.float32)
    np.testing.assert_array_equal(poisson_noise(black, 3, False, random_stream(1)), black)


def test_jpeg_is_a_real_one_with_subsampled_chroma():
    image = texture(8, 40, 48)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=60, subsampling=2)
    found = jpeg(image.astype(np.float32) / 255, 60)
    np.testing.assert_allclose(found * 255, np.asarray(Image.open(stream)), atol=1e-3)


def test_the_order_of_keys_in_the_params_changes_nothing(train):
    """`dvc exp run` and recipes write params in an order of their own."""

    def turned(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return value

    mixture = {"train": 0.3, "test": 0.3, "real": 0.4}
    sets = PAIRS["sets"]["train"] | {"degradation": mixture}
    one, other = (SetSettings.model_validate(given) for given in (sets, turned(sets)))
    turned_train = DegradationSettings.model_validate(turned(TRAIN))
    hr = texture(1, 64, 64)
    for seed in range(20):
        drawn = []
        for presets, settings in ((one.presets, train), (other.presets, turned_train)):
            rng = random_stream("order", seed)
            drawn.append((draw_preset(presets, rng), degrade(hr, settings, rng).record))
        assert drawn[0] == drawn[1]
