"""The training loop of all three stages: batches, updates, validation, checkpoints, curves.

A stage gives a `TrainingTask` and batches. The trajectory follows from the task's state and the
step number alone, so a run that was stopped at any step resumes to the same weights. Several
workers run this loop in step with equal state; the main worker alone writes and reports. A thread
writes the checkpoints beside the training.

A step does not wait for its device: the loop reads the terms of several steps at once.
"""

import math
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tvqrap.config.training import Monitoring
from tvqrap.images.save import save_png
from tvqrap.runtime.errors import UserError, first_line
from tvqrap.runtime.progress import progress
from tvqrap.runtime.signals import Interrupted, stop_between_steps
from tvqrap.training.batch import Batch
from tvqrap.training.checkpoint import CheckpointWriter, digest, is_milestone, load_checkpoint
from tvqrap.training.curves import CurveSink, History, Row
from tvqrap.training.diagnosis import diagnose
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.optimizer import stacked
from tvqrap.training.record import TrainingRecord
from tvqrap.training.validation import Validation

READ_EVERY = 10
"""Steps between reads of their terms. A read waits for the device, which otherwise works behind the
process that feeds it. Curves and checkpoints also read them."""
PICTURES = "pictures"
"""Folder beside the checkpoints that holds an image of each validation, named by its step."""


class TrainingTask(Protocol):
    """Networks, their update, and their validation."""

    def update(self, batch: Batch, step: int) -> Mapping[str, Tensor]:
        """Takes one step (from 0) on this worker's share of its batch.

        Returns scalars to record, of the whole batch, on the device. If one is not finite, the
        update was skipped.
        """
        ...

    def health(self) -> tuple[Mapping[str, float], str | None]:
        """Returns scalars of the steps since the last call, and a warning if there is one."""
        ...

    def validate(self) -> Validation:
        """Scores the averaged weights on fixed validation samples."""
        ...

    def state(self) -> dict[str, Any]:
        """Returns everything that the next update depends on: tensors, numbers, strings."""
        ...

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
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
    sink: CurveSink | None = None,
    record: TrainingRecord | None = None,
) -> History:
    """Trains until step `steps`, from the newest checkpoint in `folder` if there is one.

    `batches(step)` yields this worker's share of the batches from step `step` on. `sink` takes the
    curves of the main worker. `record` goes into the checkpoints, and takes up the changes since
    the checkpoint. A checkpoint with `steps` or more ends the training at once.

    Raises:
        Interrupted: SIGINT or SIGTERM reached a worker, and the state was saved.
        UserError: `monitoring.max_skipped_updates` updates in a row were skipped (the message names
            step and term; earlier checkpoints stay), a checkpoint cannot be written, or the one to
            resume from does not fit the task.
    """
    sink = sink if workers.is_main else None
    run = _Run(task, title, steps, monitoring, folder, workers, sink, record or TrainingRecord())
    first = run.resume()
    if sink is not None:
        sink.start(first, run.history)
    if first == 0 and not run.history.validation:
        run.validate(0)
    if first >= steps:
        run.complete(first)
        return run.history
    with (
        closing(batches(first)) as source,
        closing(run.writer),
        stop_between_steps() as stop,
        _progress(title, steps, first, workers) as advance,
    ):
        run.restart_clock()
        for done in range(first + 1, steps + 1):
            run.update(next(source), done - 1)
            run.observe(done)
            advance(1, note=_written(run.terms, limit=4))
            run.writer.check()
            signal_number = workers.all_reduce_max(stop.signal_number or 0)
            if signal_number or run.due(done, monitoring.checkpoint_every) or run.milestone(done):
                run.save(done)
            if signal_number:
                run.writer.wait()
                raise Interrupted(signal_number)
        run.writer.wait()
    return run.history


@dataclass
class _Run:
    """One call of `train`: its arguments, and the curves so far."""

    task: TrainingTask
    title: str
    steps: int
    monitoring: Monitoring
    folder: Path
    workers: Workers
    sink: CurveSink | None
    record: TrainingRecord
    history: History = field(default_factory=History)
    window: dict[str, tuple[float, int]] = field(default_factory=dict)
    """Sum of each term over the steps since the last row that had it and were not skipped, and
    their number."""
    skipped: int = 0
    """Skipped updates since the last row."""
    in_a_row: int = 0
    """Skipped updates since the last that was not skipped."""
    unread: list[tuple[int, list[str], Tensor]] = field(default_factory=list)
    """Steps since the last read: number, names of their terms, and values on the device."""
    terms: Mapping[str, float] = field(default_factory=dict)
    """Terms of the last step that was read."""
    samples: int = 0
    """Samples since the clock was restarted, of all workers."""
    started: float = 0.0
    warned: set[str] = field(default_factory=set)
    """Faults that a line was printed for."""

    def __post_init__(self) -> None:
        self.writer = CheckpointWriter(self.folder, self.monitoring.keep_every)

    def due(self, done: int, every: int) -> bool:
        """Whether the steps done are a multiple of `every`, or all."""
        return done % every == 0 or done == self.steps

    def milestone(self, done: int) -> bool:
        """Whether the checkpoint after the steps done is kept for good."""
        return is_milestone(done, self.monitoring.keep_every)

    def say(self, text: str) -> None:
        """Prints a line on the main worker."""
        if self.workers.is_main:
            print(f"{self.title}: {text}", flush=True)

    def resume(self) -> int:
        """Loads the newest checkpoint; returns the steps done."""
        first = 0
        resumed = load_checkpoint(self.folder)
        if resumed is not None:
            first, saved = resumed
            try:
                self.task.load_state(saved["task"])
                self.history = History(**saved["history"])
                # Earlier checkpoints have a number of steps for all terms.
                self.window = {} if "counted" in saved else saved["window"]
                self.skipped, self.in_a_row = saved["skipped"], saved["in_a_row"]
                self.record.follow(TrainingRecord(**saved["record"]), first)
            except (KeyError, RuntimeError, TypeError, ValueError) as error:
                raise UserError(
                    f"{self.folder}: the checkpoint of step {first} does not fit the present code "
                    f"and params ({first_line(error)})"
                ) from None
            self.say(f"resumes after step {first}")
        self.workers.check_equal("checkpoint", f"{first:016x}")
        return first

    def save(self, step: int) -> None:
        """Starts to write a checkpoint on the main worker, if the state of all workers is equal."""
        self.read()
        task = self.task.state()
        if self.workers.count > 1:
            self.workers.check_equal(
                f"weights after step {step}",
                digest(task),
                "a device or the exchange is at fault (the checkpoint before stays)",
            )
        if self.workers.is_main:
            state = {
                "task": task,
                "history": asdict(self.history),
                "window": self.window,
                "skipped": self.skipped,
                "in_a_row": self.in_a_row,
                "record": self.record.state(),
            }
            self.writer.save(step, state)

    def update(self, batch: Batch, step: int) -> None:
        """Takes one step, without waiting for the device."""
        terms = self.task.update(batch, step)
        self.unread.append((step, list(terms), stacked(terms.values())))
        self.samples += len(batch.keys) * self.workers.count

    def observe(self, done: int) -> None:
        """Reads terms, adds rows to the curves and validates, where it is time to."""
        if self.due(done, READ_EVERY):
            self.read()
        if self.due(done, self.monitoring.record_every):
            self.record_steps(done)
        if self.due(done, self.monitoring.validate_every):
            self.say(f"step {done}: {_written(self.validate(done))}")
        if self.due(done, self.monitoring.record_every):  # speed leaves out the time of validations
            self.restart_clock()

    def read(self) -> None:
        """Reads the terms of the steps since the last read, in one transfer.

        A skipped update is counted, not averaged.
        """
        unread, self.unread = self.unread, []
        if not unread:
            return
        values = iter(torch.cat([values for _, _, values in unread]).tolist())
        for step, names, _ in unread:
            self.terms = terms = dict(zip(names, values, strict=False))
            wrong = next((name for name, value in terms.items() if not math.isfinite(value)), None)
            if wrong is not None:
                self._skip(step, wrong, terms[wrong])
                continue
            for name, value in terms.items():
                total, count = self.window.get(name, (0.0, 0))
                self.window[name] = (total + value, count + 1)
            self.in_a_row = 0

    def _skip(self, step: int, term: str, value: float) -> None:
        self.skipped += 1
        self.in_a_row += 1
        if self.in_a_row >= self.monitoring.max_skipped_updates:
            raise UserError(
                f"{self.title}: step {step}: {term} is {value}, and {self.in_a_row} updates in a "
                "row were skipped (monitoring.max_skipped_updates); lower the learning rate or the "
                "weight of that term (the last checkpoint before it is kept)"
            )
        if self.in_a_row == 1:
            self.say(f"step {step}: {term} is {value}: the update is skipped")

    def complete(self, done: int) -> None:
        """Completes the curves of a training that has all of its steps, or more."""
        if done > self.steps:
            self.say(f"step {done}: ends here, as {self.steps} steps were asked for")
        if self.window or self.skipped:
            self.record_steps(done)
        if self.history.validation[-1]["step"] != done:
            self.validate(done)

    def restart_clock(self) -> None:
        """Starts to measure speed anew."""
        self.samples, self.started = 0, time.monotonic()

    def record_steps(self, done: int) -> None:
        """Records the mean terms, health and speed of the steps since the last row."""
        self.read()
        means = {name: total / count for name, (total, count) in self.window.items()}
        health, warning = self.task.health()
        self._record("steps", {"step": done, **means, **health, "skipped_updates": self.skipped})
        self.window, self.skipped = {}, 0
        if self.samples:
            rate = self.samples / (time.monotonic() - self.started)
            self._record("speed", {"step": done, "samples_per_second": rate})
        self._warn(done, {"collapse": warning} if warning else {})

    def validate(self, step: int) -> dict[str, float]:
        """Validates and records the scores; the main worker writes the picture."""
        # On every worker: none waits for the main worker, and the history of all is equal.
        seen = self.task.validate()
        if self.workers.is_main:
            save_png(self.folder / PICTURES / f"{step:09d}.png", seen.picture)
        self._record("validation", {"step": step, **seen.scores}, seen.picture)
        self._warn(step, {})
        return seen.scores

    def _record(self, kind: str, row: Row, picture: NDArray[np.uint8] | None = None) -> None:
        rows: list[Row] = getattr(self.history, kind)
        rows.append(row)
        if self.sink is not None:
            self.sink.row(kind, row, picture)

    def _warn(self, step: int, found: Mapping[str, str]) -> None:
        """Prints a line for each fault that is new, those that the curves show included."""
        for fault, text in {**found, **diagnose(self.history)}.items():
            if fault not in self.warned:
                self.warned.add(fault)
                self.say(f"step {step}: warning: {text}")


@contextmanager
def _progress(title: str, steps: int, done: int, workers: Workers) -> Iterator[Callable[..., None]]:
    if not workers.is_main:
        yield lambda count, note: None
        return
    with progress(title, total=steps, unit="step", done=done) as advance:
        yield advance


def _written(values: Mapping[str, float], limit: int | None = None) -> str:
    return ", ".join(f"{name} {value:.4g}" for name, value in list(values.items())[:limit])
