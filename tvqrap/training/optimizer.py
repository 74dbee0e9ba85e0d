"""Adam with a learning-rate schedule and gradient clipping."""

import math
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from tvqrap.config.training import Optimiser
from tvqrap.training.distributed import Workers

COSINE_END = 0.02


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """Learning rate of step `step` (from 0) of `steps`: linear warm-up, then the schedule."""
    rate = settings.learning_rate * min(1.0, (step + 1) / max(1, settings.warmup_steps))
    if settings.lr_schedule == "cosine":
        progress = step / max(1, steps)
        rate *= COSINE_END + (1 - COSINE_END) * 0.5 * (1 + math.cos(math.pi * progress))
    return rate


def set_learning_rate(
    optimiser: torch.optim.Optimizer, settings: Optimiser, step: int, steps: int
) -> None:
    """Sets the learning rate of step `step` (from 0) of `steps`."""
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(settings, step, steps)


def adam(parameters: Iterable[nn.Parameter], settings: Optimiser) -> torch.optim.Adam:
    """Creates Adam over the parameters that require a gradient."""
    trained = [parameter for parameter in parameters if parameter.requires_grad]
    return torch.optim.Adam(trained, settings.learning_rate, settings.betas, fused=True)


def apply_gradients(
    optimiser: torch.optim.Optimizer,
    clip: float | None,
    workers: Workers,
    terms: Iterable[Tensor] = (),
) -> tuple[Tensor, Tensor]:
    """Sums the workers' gradients, clips and applies them.

    Returns the norm before clipping, and whether they were applied (bool, a scalar). They are
    dropped where the norm or one of `terms`, scalars that are equal on all workers, is not finite.
    The device decides that, and nothing waits for it but on MPS. `optimiser` is a fused Adam.
    """
    parameters = [
        parameter
        for group in optimiser.param_groups
        for parameter in group["params"]
        if parameter.grad is not None
    ]
    gradients = [parameter.grad for parameter in parameters]
    workers.all_reduce(gradients)
    norm = torch.nn.utils.get_total_norm(gradients)
    if clip is not None:
        torch.nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    finite = stacked([norm, *terms]).isfinite().all()
    # Where this is 1, a fused Adam leaves weights, moments and its count of steps as they are; it
    # is how torch.amp.GradScaler skips an update.
    optimiser.found_inf = finite.logical_not().float()  # type: ignore[attr-defined]
    if finite.device.type != "mps" or finite:  # the fused Adam of MPS does not read it
        optimiser.step()
    optimiser.zero_grad()
    return norm, finite


def stacked(scalars: Iterable[Tensor]) -> Tensor:
    """Scalars as one float32 vector, as which the loop records them."""
    return torch.stack([value.detach().float().reshape(()) for value in scalars])
