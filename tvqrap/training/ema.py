"""Running average of a module's weights, which each stage writes as its model."""

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class WeightsAverage(Generic[Module]):
    """Exponential moving average of parameters; buffers are copied.

    The decay grows with the updates from 0.1 as (1 + n) / (10 + n) until it reaches `decay`. So the
    random start has no weight in a short training.
    """

    def __init__(self, module: Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0
        """Updates so far, with those that were not applied."""

    @torch.no_grad()
    def update(self, module: nn.Module, applied: Tensor) -> None:
        """Moves the average towards the module's weights where `applied` (bool, a scalar)."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages: list[Tensor] = list(self.module.parameters())
        weight = applied.to(averages[0]) * (1 - decay)
        torch._foreach_lerp_(averages, list(module.parameters()), [weight] * len(averages))
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)

    @torch.no_grad()
    def set_rows(self, name: str, rows: Tensor, values: Tensor) -> None:
        """Replaces `rows` (bool) of one parameter by those of `values`, which has its shape."""
        average = self.module.get_parameter(name)
        average.copy_(torch.where(rows[:, None], values, average))

    def state(self) -> dict[str, Any]:
        """Returns the average and the number of updates."""
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]
