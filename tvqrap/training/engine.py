"""The loop that all three stages run: batches in, updates, validation, checkpoints, curves.

A stage hands over a `Trainee` (its networks and one update) and a source of batches. Everything
that fixes the trajectory is in the trainee's state or follows from the step number, so a run
that was stopped anywhere goes on to the same weights.
"""

import math
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tvqrap.errors import UserError
from tvqrap.progress import progress
from tvqrap.training.batch import Batch
from tvqrap.training.checkpoint import load_checkpoint, save_checkpoint
from tvqrap.training.history import History
from tvqrap.training.interruption import Interrupted, stop_between_steps
from tvqrap.training.settings import Monitoring

ROWS_OF_CURVE = 200


class Trainee(Protocol):
    """What a stage trains."""

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """One step (from 0): changes the weights, returns scalars to record."""
        ...

    def validate(self) -> Mapping[str, float]:
        """Scores of the averaged weights on fixed validation samples."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on: tensors, numbers, strings."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        ...


def train(
    trainee: Trainee,
    *,
    title: str,
    steps: int,
    batches: Callable[[int], Generator[Batch, None, None]],
    monitoring: Monitoring,
    checkpoints: Path,
) -> History:
    """Runs `steps` steps, from the newest checkpoint in `checkpoints` if there is one.

    `batches(step)` yields the batches from step `step` on. On SIGINT or SIGTERM the state is
    saved and `Interrupted` raised. Raises `UserError` naming step and term where a loss is not
    finite; the checkpoints before it stay.
    """
    history = History()
    window: dict[str, float] = {}
    counted = first = 0
    resumed = load_checkpoint(checkpoints)
    if resumed is not None:
        first, saved = resumed
        trainee.load_state(saved["trainee"])
        history = History(**saved["history"])
        window, counted = saved["window"], saved["counted"]
        print(f"{title}: goes on after step {first}", flush=True)

    def save(step: int) -> None:
        save_checkpoint(
            checkpoints,
            step,
            {
                "trainee": trainee.state(),
                "history": asdict(history),
                "window": window,
                "counted": counted,
            },
        )

    record_every = max(1, steps // ROWS_OF_CURVE)
    if first == 0 and not history.validation:
        history.validation.append({"step": 0, **trainee.validate()})
    if first >= steps:
        return history
    with (
        closing(batches(first)) as source,
        stop_between_steps() as stop,
        progress(title, total=steps, unit="step", done=first) as advance,
    ):
        for step in range(first, steps):
            terms = _checked(trainee.update(next(source), step), title, step)
            for name, value in terms.items():
                window[name] = window.get(name, 0.0) + value
            counted += 1
            done = step + 1
            if done % record_every == 0 or done == steps:
                means = {name: total / counted for name, total in window.items()}
                history.steps.append({"step": done, **means})
                window, counted = {}, 0
            if done % monitoring.validate_every == 0 or done == steps:
                scores = trainee.validate()
                history.validation.append({"step": done, **scores})
                print(f"{title}: step {done}: {_written(scores)}", flush=True)
            advance(1, note=_written(terms, limit=4))
            if stop.signal_number is not None:
                save(done)
                raise Interrupted(stop.signal_number)
            if done % monitoring.checkpoint_every == 0 or done == steps:
                save(done)
    return history


def _checked(terms: Mapping[str, Tensor], title: str, step: int) -> dict[str, float]:
    # One transfer for all terms: on a GPU each would wait for the device.
    values = torch.stack([value.detach().float().reshape(()) for value in terms.values()]).tolist()
    named = dict(zip(terms, values, strict=True))
    for name, value in named.items():
        if not math.isfinite(value):
            raise UserError(
                f"{title}: step {step}: {name} is {value}; lower the learning rate or the weight "
                "of that term (the last checkpoint before it is kept)"
            )
    return named


def _written(values: Mapping[str, float], limit: int | None = None) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:limit])
