"""A network under training: its optimiser, schedule and running average, and their state."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any, Generic, TypeVar

import torch
from torch import Tensor, nn

from tvqrap.config.training import Compute, Optimiser
from tvqrap.runtime.device import (
    META,
    autocast,
    on_device,
    select_device,
    set_cuda_arithmetic,
    weights_dtype,
)
from tvqrap.training.batch import Batch, Microbatch, as_image
from tvqrap.training.compile import compile_blocks
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.ema import WeightsAverage
from tvqrap.training.optimizer import adam, apply_gradients, scheduled, stacked, sum_gradients
from tvqrap.training.recompute import recompute_blocks

Module = TypeVar("Module", bound=nn.Module)


class Learner(Generic[Module]):
    """Trains the parameters of a module that require a gradient.

    An update is `begin`, backward passes on each of `microbatches`, and `finish`.
    """

    def __init__(
        self,
        module: Module,
        settings: Optimiser,
        compute: Compute,
        *,
        steps: int,
        network: nn.Module | None = None,
        own_rates: Mapping[str, float] | None = None,
        workers: Workers = ALONE,
    ) -> None:
        """Moves `network` to the device and precision of `compute`, and prepares its blocks.

        `module` is the part of `network` that is trained and averaged; None: `network` is it.
        `steps` is the length of the whole training, which the schedule needs. `own_rates`: by name
        of a child of `module`, its learning rate over that of the others.
        """
        network = module if network is None else network
        self.module = module
        self.settings = settings
        self.compute = compute
        self.steps = steps
        self.workers = workers
        # A network on the meta device, built to count operations, stays there.
        on_meta = next(network.parameters()).is_meta
        self.device = META if on_meta else select_device(compute.device, "compute.device")
        self.dtype = weights_dtype(compute.precision)
        torch.set_num_threads(compute.threads)
        set_cuda_arithmetic(tf32=compute.tf32, cudnn_benchmark=compute.cudnn_benchmark)
        on_device(network, self.device, self.dtype).train()
        self.average = WeightsAverage(module, settings.ema_decay)
        if compute.activation_checkpointing:
            recompute_blocks(network)
        if compute.compile:
            compile_blocks(network)
        own_rates = own_rates or {}
        children = dict(module.named_children())
        apart = [list(children[name].parameters()) for name in own_rates]
        listed = {id(parameter) for group in apart for parameter in group}
        others = [each for each in module.parameters() if id(each) not in listed]
        self.optimiser = adam([others, *apart], settings)
        self.rates = [1.0, *own_rates.values()]
        """Learning rate of each group of the optimiser over that of the settings."""
        self.applied = torch.ones((), dtype=torch.bool, device=self.device)
        """Whether the last update was applied (bool, a scalar on the device); else a loss or the
        gradient was not finite."""

    def autocast(self) -> AbstractContextManager[Any]:
        """Returns the context for forward passes."""
        return autocast(self.device, self.compute.precision)

    def image(self, stored: Tensor | None) -> Tensor:
        """uint8 (N, H, W, 3) -> (N, 3, H, W) in [-1, 1] on the training's device."""
        return as_image(stored, self.device, self.dtype)

    def microbatches(self, batch: Batch) -> Iterator[tuple[Microbatch, Batch]]:
        """Divides this worker's share of a step's batch into gradient-accumulation steps."""
        return batch.microbatches(self.compute.grad_accum_steps, self.workers.microbatch)

    def begin(self, step: int) -> None:
        """Sets the learning rates of step `step` (from 0)."""
        for group, factor in zip(self.optimiser.param_groups, self.rates, strict=True):
            group["lr"] = self.learning_rate(self.settings.learning_rate * factor, step)

    def learning_rate(self, peak: float, step: int) -> float:
        """Returns the learning rate at a step (from 0) of a network whose rate is `peak`."""
        return scheduled(peak, self.settings, step, self.steps)

    def health(self) -> dict[str, float]:
        """Returns the learning rate of the last step."""
        return {"learning_rate": self.optimiser.param_groups[0]["lr"]}

    def finish(
        self, terms: dict[str, Tensor], of_batch: Mapping[str, Tensor] | None = None
    ) -> dict[str, Tensor]:
        """Applies the accumulated gradients and updates the average.

        Takes this worker's contributions to the terms, and terms that are `of_batch` already.
        Returns the terms of the whole batch with `gradient_norm`, the norm before clipping. A term
        that is not finite skips the update: then weights, optimiser and average stay as they are.
        """
        terms = self.workers.reduce_terms(terms)
        norm = sum_gradients(self.optimiser, self.workers)
        terms = {**terms, "gradient_norm": norm, **(of_batch or {})}
        self.applied = stacked(terms.values()).isfinite().all()
        apply_gradients(self.optimiser, self.applied, self.settings.grad_clip_norm, norm)
        self.average.update(self.module, self.applied)
        return terms

    def state(self) -> dict[str, Any]:
        """Returns trained weights, average and optimiser."""
        return {
            "weights": {
                name: parameter.detach()
                for name, parameter in self.module.named_parameters()
                if parameter.requires_grad
            },
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
        self.module.load_state_dict(state["weights"], strict=False)
        self.average.load_state(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        for group in self.optimiser.param_groups:  # the settings may have changed since
            group["betas"] = self.settings.betas
