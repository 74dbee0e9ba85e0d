"""A line says when a curve shows a fault, and none where it does not."""

from collections.abc import Iterable

import numpy as np
import pytest

from tvqrap.training.curves import History, Row
from tvqrap.training.diagnosis import diagnose


def rows(name: str, values: Iterable[float], **others: float) -> list[Row]:
    return [{"step": step, name: value, **others} for step, value in enumerate(values, start=1)]


def test_a_noisy_falling_loss_is_sound() -> None:
    """Single batches of four crops differ by as much."""
    noise = np.random.default_rng(0).lognormal(sigma=0.45, size=400)
    history = History(steps=rows("mse", noise / np.linspace(1, 5, 400)))
    for count in range(400):
        assert not diagnose(History(steps=history.steps[:count])), count


@pytest.mark.parametrize("term", ["mse", "l1", "perceptual", "cross_entropy"])
def test_a_loss_that_stays_far_above_its_median_diverges(term: str) -> None:
    values = [1.0] * 20 + [50.0]
    assert not diagnose(History(steps=rows(term, values))), "one bad row is no divergence"
    found = diagnose(History(steps=rows(term, [*values, 20.0, 40.0])))
    assert found.keys() == {"diverged"}
    assert found["diverged"].startswith(f"{term} is 40, its median before was 1")
    assert "lower optimiser.learning_rate" in found["diverged"]


def test_losses_that_jump_as_a_term_begins_are_sound() -> None:
    """Quantization brings the column codes_used, the GAN term those of the discriminator."""
    before = rows("mse", [0.1] * 30)
    after = rows("mse", [1.0] * 30, codes_used=0.5)
    for count in range(len(after)):
        assert not diagnose(History(steps=before + after[:count])), count


def test_a_validation_far_below_its_best_is_named_with_the_best_step() -> None:
    found = diagnose(History(validation=rows("psnr", [20.0, 25.0, 23.0])))
    assert not found
    found = diagnose(History(validation=rows("psnr", [20.0, 25.0, 21.5])))
    assert "psnr of validation is 21.5, at step 2 it was 25" in found["validation"]
    found = diagnose(History(validation=rows("cross_entropy", [5.0, 4.0, 5.5], psnr=20.0)))
    assert "cross_entropy of validation is 5.5, at step 2 it was 4" in found["validation"]


def test_a_discriminator_that_tells_all_apart_is_saturated() -> None:
    learning = [1.0, 0.6, 0.01, 0.3, 0.01, 0.01]
    assert not diagnose(History(steps=rows("discriminator", learning)))
    (text,) = diagnose(History(steps=rows("discriminator", [*learning, 0.0]))).values()
    assert "GAN term teaches nothing" in text and "adversarial.learning_rate" in text
