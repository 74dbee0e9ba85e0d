"""Schedules: warm-up, constant as the paper, cosine, step; gradients clipped."""

from typing import Any

import pytest
import torch
from pydantic import ValidationError

from tests.support.training import OPTIMISER
from tvqrap.config.training import Optimiser
from tvqrap.training.distributed import ALONE
from tvqrap.training.optimizer import adam, apply_gradients, scheduled, sum_gradients


def settings(**changes: Any) -> Optimiser:
    return Optimiser.model_validate({**OPTIMISER, "learning_rate": 1.0, **changes})


def rate(chosen: Optimiser, step: int, steps: int) -> float:
    return scheduled(chosen.learning_rate, chosen, step, steps)


def test_constant_is_the_same_at_every_step_of_any_length() -> None:
    constant = settings(lr_schedule="constant", warmup_steps=0)
    assert {rate(constant, step, steps) for step in range(9) for steps in (9, 90)} == {1}


def test_warm_up_grows_linearly() -> None:
    warm = settings(lr_schedule="constant", warmup_steps=4)
    assert [rate(warm, step, 8) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]


@pytest.mark.parametrize("floor", [0.0, 0.02, 0.5])
def test_cosine_falls_from_the_whole_to_its_floor(floor: float) -> None:
    cosine = settings(lr_schedule="cosine", lr_floor=floor, warmup_steps=0)
    rates = [rate(cosine, step, 100) for step in range(101)]
    assert rates[0] == 1 and rates[100] == pytest.approx(floor)
    assert rates[50] == pytest.approx((1 + floor) / 2)
    assert rates == sorted(rates, reverse=True)


def test_step_falls_by_its_factor_at_each_milestone_whatever_the_length() -> None:
    falling = settings(lr_schedule="step", lr_milestones=[2, 3, 6], lr_factor=0.5, warmup_steps=0)
    for steps in (8, 80):
        assert [rate(falling, step, steps) for step in range(8)] == [
            *(1, 1, 0.5, 0.25),
            *(0.25, 0.25, 0.125, 0.125),
        ]


@pytest.mark.parametrize(
    ("milestones", "message"),
    [([], "lr_schedule step needs one or more"), ([3, 2], "expected ascending steps")],
)
def test_milestones_that_do_not_fit_are_refused(milestones: list[int], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        settings(lr_schedule="step", lr_milestones=milestones)


def test_a_long_gradient_is_clipped_and_its_own_length_reported() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2))
    optimiser = torch.optim.SGD([parameter], lr=1.0, fused=True)
    parameter.grad = torch.tensor([3.0, 4.0])
    norm = sum_gradients(optimiser, ALONE)
    assert norm.item() == pytest.approx(5)
    apply_gradients(optimiser, torch.tensor(True), 1.0, norm)
    torch.testing.assert_close(parameter.detach(), torch.tensor([-0.6, -0.8]))
    assert parameter.grad is None


def test_gradients_that_are_not_wanted_change_nothing() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    optimiser = torch.optim.SGD([parameter], lr=1.0, fused=True)
    parameter.grad = torch.tensor([float("inf"), 1.0])
    apply_gradients(optimiser, torch.tensor(False), 1.0, sum_gradients(optimiser, ALONE))
    assert parameter.grad is None
    assert parameter.tolist() == [1, 1]


def test_adam_takes_the_settings_and_leaves_out_what_is_frozen() -> None:
    free, frozen = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.zeros(1), False)
    (group,) = adam([[free, frozen]], settings(betas=[0.5, 0.9])).param_groups
    assert group["params"] == [free] and tuple(group["betas"]) == (0.5, 0.9)
