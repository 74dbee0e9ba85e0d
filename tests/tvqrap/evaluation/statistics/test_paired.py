"""Paired differences and verdicts."""

import numpy as np

from tvqrap.evaluation.statistics.intervals import mean_interval
from tvqrap.evaluation.statistics.paired import Value, paired_difference, verdicts


def values(numbers: np.ndarray) -> dict[str, Value]:
    return {str(k): Value(str(k), float(number)) for k, number in enumerate(numbers)}


def test_pairing_tells_apart_what_means_do_not() -> None:
    rng = np.random.default_rng(0)
    base = rng.normal(25, 5, 20)
    better, worse = values(base + 0.2 + 0.05 * rng.normal(size=20)), values(base)
    difference = paired_difference(better, worse, 0.95)
    assert difference is not None and difference.interval.low is not None
    assert difference.interval.low > 0
    assert verdicts({"psnr_y": difference}, 0.95) == {"psnr_y": "better"}
    assert verdicts({"piqe": difference}, 0.95) == {"piqe": "worse"}
    a, b = (
        mean_interval({k: [v.value] for k, v in found.items()}, 0.95) for found in (better, worse)
    )
    assert a.low and b.high and b.high > a.low  # their own intervals overlap
    same = paired_difference(worse, worse, 0.95)
    assert same is not None and verdicts({"psnr_y": same}, 0.95) == {"psnr_y": "not told apart"}
    assert paired_difference(better, {}, 0.95) is None


def test_a_verdict_asks_for_enough_photographs() -> None:
    difference = paired_difference(values(np.arange(9.0) + 5), values(np.arange(9.0)), 0.95)
    assert difference is not None and difference.interval.low is not None
    assert verdicts({"psnr_y": difference}, 0.95) == {"psnr_y": "not told apart"}


def test_verdicts_are_corrected_for_the_number_of_metrics() -> None:
    """Of equal models, about 5 % of the comparisons of seven metrics have any verdict."""
    rng = np.random.default_rng(0)
    metrics = ("psnr_y", "ssim_y", "fsim", "stlpips_vgg", "stlpips_alex", "piqe", "grid")
    zero, wrong, uncorrected = values(np.zeros(20)), 0, 0
    for _ in range(300):
        found = {m: paired_difference(values(rng.normal(size=20)), zero, 0.95) for m in metrics}
        differences = {metric: d for metric, d in found.items() if d is not None}
        wrong += set(verdicts(differences, 0.95).values()) != {"not told apart"}
        uncorrected += any(d.p is not None and d.p < 0.05 for d in differences.values())
    assert uncorrected > 60
    assert wrong < 27


def test_holms_steps() -> None:
    rng = np.random.default_rng(1)
    zero = values(np.zeros(12))
    found = {}
    for metric, shift in (("psnr_y", 3.0), ("fsim", 0.85), ("piqe", 0.0)):
        noise = rng.normal(size=12)
        noise = (noise - noise.mean()) / noise.std(ddof=1)
        difference = paired_difference(values(noise + shift), zero, 0.95)
        assert difference is not None and difference.p is not None
        found[metric] = difference
    assert 0.01 < found["fsim"].p < 0.05 / 2  # type: ignore[operator]  # not by Bonferroni's third
    assert list(verdicts(found, 0.95).values()) == ["better", "better", "not told apart"]
