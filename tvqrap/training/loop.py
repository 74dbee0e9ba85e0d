"""The loop that all three stages run: batches in, updates, validation, checkpoints, curves.

A stage hands over a `TrainingTask` (its networks and one update) and a source of batches. The
trajectory follows from the task's state and the step number alone. A run that was stopped at any
step therefore resumes to the same weights. Several workers run this loop in step with equal state;
the main worker alone writes and reports.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from tvqrap.config.training import Monitoring
from tvqrap.images.save import save_png
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.progress import progress
from tvqrap.runtime.signals import Interrupted, stop_between_steps
from tvqrap.training.batch import Batch
from tvqrap.training.checkpoint import load_checkpoint, save_checkpoint
from tvqrap.training.curves import History, Row
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.validation import Validation

ROWS_OF_CURVE = 200
PICTURES = "pictures"
"""Folder beside the checkpoints: a picture of each validation, named after its step."""


class TrainingTask(Protocol):
    """What a stage trains."""

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """One step (from 0) on this worker's part of its batch: changes the weights.

        Returns scalars to record, of the whole batch.
        """
        ...

    def health(self) -> tuple[Mapping[str, float], str | None]:
        """Numbers about the steps since the last look, to record, and a warning if need be."""
        ...

    def validate(self) -> Validation:
        """Scores and a picture of what the averaged weights make of fixed validation samples."""
        ...

    def state(self) -> dict[str, Any]:
        """Everything that the next update depends on: tensors, numbers, strings."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        ...


def train(
    task: TrainingTask,
    *,
    title: str,
    steps: int,
    batches: Callable[[int], Generator[Batch, None, None]],
    monitoring: Monitoring,
    folder: Path,
    workers: Workers = ALONE,
    report: Callable[[str, Row], None] | None = None,
) -> History:
    """Runs `steps` steps, from the newest checkpoint in `folder` if there is one.

    `batches(step)` yields this worker's part of the batches from step `step` on. `report(kind,
    row)` is given each row of the curves. On SIGINT or SIGTERM, whichever worker it reaches, the
    state is saved and `Interrupted` raised. Raises `UserError` naming step and term where a loss is
    not finite; the checkpoints before it stay.
    """
    say = print if workers.is_main else _nothing
    history = History()
    window: dict[str, float] = {}
    counted = first = 0
    resumed = load_checkpoint(folder)
    if resumed is not None:
        first, saved = resumed
        task.load_state(saved["task"])
        history = History(**saved["history"])
        window, counted = saved["window"], saved["counted"]
        say(f"{title}: goes on after step {first}", flush=True)
    workers.check_equal("checkpoint", f"{first:016x}")

    def save(step: int) -> None:
        if not workers.is_main:
            return
        save_checkpoint(
            folder,
            step,
            {
                "task": task.state(),
                "history": asdict(history),
                "window": window,
                "counted": counted,
            },
        )

    def record(kind: str, rows: list[Row], row: Row) -> None:
        rows.append(row)
        if report is not None and workers.is_main:
            report(kind, row)

    def validate(step: int) -> dict[str, float]:
        # On every worker: nobody waits for the first, and the curves are in the state of all.
        seen = task.validate()
        if workers.is_main:
            save_png(folder / PICTURES / f"{step:09d}.png", seen.picture)
        record("validation", history.validation, {"step": step, **seen.scores})
        return seen.scores

    record_every = max(1, steps // ROWS_OF_CURVE)
    warned = False
    if first == 0 and not history.validation:
        validate(0)
    if first >= steps:
        return history
    with (
        closing(batches(first)) as source,
        stop_between_steps() as stop,
        _progress(title, steps, first, workers) as advance,
    ):
        samples, started = 0, time.monotonic()
        for step in range(first, steps):
            batch = next(source)
            terms = _checked(task.update(batch, step), title, step)
            for name, value in terms.items():
                window[name] = window.get(name, 0.0) + value
            counted += 1
            samples += len(batch.keys) * workers.count
            done = step + 1
            if done % record_every == 0 or done == steps:
                means = {name: total / counted for name, total in window.items()}
                health, warning = task.health()
                record("steps", history.steps, {"step": done, **means, **health})
                window, counted = {}, 0
                rate = samples / (time.monotonic() - started)
                record("speed", history.speed, {"step": done, "samples_per_second": rate})
                if warning and not warned:
                    warned = True
                    say(f"{title}: step {done}: warning: {warning}", flush=True)
            if done % monitoring.validate_every == 0 or done == steps:
                say(f"{title}: step {done}: {_written(validate(done))}", flush=True)
            if done % record_every == 0:  # what is measured are steps, not looks at them
                samples, started = 0, time.monotonic()
            advance(1, note=_written(terms, limit=4))
            if signal_number := workers.all_reduce_max(stop.signal_number or 0):
                save(done)
                raise Interrupted(signal_number)
            if done % monitoring.checkpoint_every == 0 or done == steps:
                save(done)
    return history


def _nothing(*_: object, **__: object) -> None:
    pass


@contextmanager
def _progress(title: str, steps: int, done: int, workers: Workers) -> Iterator[Callable[..., None]]:
    if not workers.is_main:
        yield _nothing
        return
    with progress(title, total=steps, unit="step", done=done) as advance:
        yield advance


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
