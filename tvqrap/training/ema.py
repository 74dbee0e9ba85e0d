"""Running average of a module's weights, which is what each stage writes."""

import copy
from collections.abc import Mapping
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

Module = TypeVar("Module", bound=nn.Module)


class WeightsAverage(Generic[Module]):
    """Exponential moving average of parameters; buffers are copied.

    The decay grows from 0 as (1 + n) / (10 + n) until it reaches `decay`, so that a short
    training does not carry its random start along.
    """

    def __init__(self, module: Module, decay: float) -> None:
        self.module = copy.deepcopy(module).eval().requires_grad_(False)
        self.decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, module: nn.Module) -> None:
        """Moves the average towards the module's present weights."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        averages: list[Tensor] = list(self.module.parameters())
        torch._foreach_lerp_(averages, list(module.parameters()), 1 - decay)
        for average, value in zip(self.module.buffers(), module.buffers(), strict=True):
            average.copy_(value)

    @torch.no_grad()
    def set_rows(self, name: str, rows: Tensor, values: Tensor) -> None:
        """Replaces rows of one parameter: entries that were set anew have no past to average."""
        self.module.get_parameter(name)[rows] = values

    def state(self) -> dict[str, Any]:
        """The average and how often it was updated."""
        return {"module": self.module.state_dict(), "updates": self.updates}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.module.load_state_dict(state["module"])
        self.updates = state["updates"]
