"""Comparing states of trainings."""

import math
from typing import Any

import torch


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    """Leaves of nested dicts and lists by their path."""
    if isinstance(value, dict):
        return {
            k: v for key, each in value.items() for k, v in flattened(each, f"{name}.{key}").items()
        }
    if isinstance(value, list | tuple):
        return flattened(dict(enumerate(value)), name)
    return {name: value}


def assert_close_states(first: Any, second: Any, tolerance: float) -> None:
    """Equal but for numbers, which are within `tolerance`; 0: equal to the last bit."""
    left, right = flattened(first), flattened(second)
    assert left.keys() == right.keys()
    for name, value in left.items():
        other = right[name]
        if isinstance(value, torch.Tensor):
            if tolerance and value.is_floating_point():
                torch.testing.assert_close(value, other, rtol=0, atol=tolerance, msg=name)
            else:
                assert torch.equal(value, other), name
        elif tolerance and isinstance(value, float):
            assert math.isclose(value, other, rel_tol=1e-6, abs_tol=tolerance), (name, value, other)
        else:
            assert value == other, (name, value, other)
