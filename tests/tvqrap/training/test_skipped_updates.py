"""Updates that are not finite are skipped and counted."""

import copy
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.support.states import flattened
from tests.support.training import (
    MONITORING,
    STEPS,
    TASKS,
    assert_equal_states,
    batch,
    predictor_task,
    run,
    stopping,
)
from tvqrap.config.training import Monitoring
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.signals import Interrupted
from tvqrap.training.batch import Batch
from tvqrap.training.loop import train
from tvqrap.training.validation import Validation

pytestmark = pytest.mark.usefixtures("small_distance")


def poisoned(*steps: int) -> Any:
    """Batches whose structure is NaN at some steps."""

    def source(step: int) -> Generator[Batch, None, None]:
        for number in range(step, STEPS):
            given = batch(number)
            if number in steps:
                assert given.hr is not None and given.structure is not None
                given.structure[0, 0, 0, 0] = float("nan")
            yield given

    return source


def test_an_update_that_is_not_finite_is_skipped_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = predictor_task()
    history = run(task, tmp_path, poisoned(4, 6))
    assert "test: step 4: structure is nan: the update is skipped" in capsys.readouterr().out
    rows = {row["step"]: row for row in history.steps}
    assert [rows[step]["skipped_updates"] for step in range(1, 9)] == [0, 0, 0, 0, 1, 0, 1, 0]
    assert "structure" not in rows[5] and rows[6]["structure"] > 0
    for value in flattened(task.state()).values():
        assert not isinstance(value, torch.Tensor) or value.isfinite().all()
    assert task.learner.average.updates == STEPS


def test_skipped_updates_survive_an_interruption(tmp_path: Path) -> None:
    """The count of those in a row too: it ends both trainings at the same step."""
    whole = predictor_task()
    assert run(whole, tmp_path / "whole", poisoned(2, 3)).steps
    with pytest.raises(Interrupted):
        run(predictor_task(), tmp_path / "parts", stopping(2, poisoned(2, 3)))
    saved = torch.load(tmp_path / "parts/step-000000003.pt")
    assert (saved["skipped"], saved["in_a_row"]) == (0, 1)
    parts = predictor_task()
    run(parts, tmp_path / "parts", poisoned(2, 3))
    assert_equal_states(whole.state(), parts.state())


@pytest.mark.parametrize("kind", ["tokenizer", "rap"])
def test_the_gradient_of_a_discriminator_skips_the_whole_update(kind: str, tmp_path: Path) -> None:
    """It is infinite at one step, that of the network is not."""
    task: Any = TASKS[kind]()
    factors = iter([1.0] * 4 + [float("inf")] + [1.0] * STEPS)
    parameter = next(task.adversary.discriminator.parameters())
    parameter.register_hook(lambda gradient: gradient * next(factors))
    history = run(task, tmp_path)
    assert sum(row["skipped_updates"] for row in history.steps) == 1
    assert task.learner.average.updates == STEPS

    def taken(optimiser: torch.optim.Optimizer) -> set[float]:
        return {state["step"].item() for state in optimiser.state_dict()["state"].values()}

    assert max(taken(task.learner.optimiser)) == STEPS - 1
    assert max(taken(task.adversary.optimiser)) < STEPS
    for value in task.adversary.discriminator.parameters():
        assert value.isfinite().all()


def test_too_many_skipped_in_a_row_end_it_with_step_and_term(tmp_path: Path) -> None:
    monitoring = {**MONITORING, "max_skipped_updates": 3}
    with pytest.raises(UserError, match=r"step 6: structure is nan, and 3 updates in a row"):
        run(predictor_task(), tmp_path, poisoned(1, 2, 4, 5, 6), monitoring)
    assert len(list(tmp_path.glob("step-*.pt"))) == 2, "checkpoints before it stay"


def test_a_skipped_update_leaves_weights_average_and_optimiser() -> None:
    task = predictor_task()
    task.update(batch(0), 0)
    before = copy.deepcopy(task.learner.state())
    given = batch(1)
    assert given.structure is not None
    given.structure[0, 0, 0, 0] = float("inf")
    task.update(given, 1)
    after = task.learner.state()
    assert after["average"].pop("updates") == before["average"].pop("updates") + 1
    rate = "param_groups"  # the learning rate is that of the step
    assert after["optimiser"].pop(rate) and before["optimiser"].pop(rate)
    assert_equal_states(before, after)


@dataclass
class Scripted:
    """A task without a network, whose loss is NaN at some steps."""

    poisoned: Sequence[int]
    sum: float = 0.0

    def update(self, batch: Batch, step: int) -> dict[str, torch.Tensor]:
        if step not in self.poisoned:
            self.sum += step
        terms = {"loss": torch.tensor(float("nan") if step in self.poisoned else float(step))}
        return terms if step < LATE else {**terms, "late": torch.tensor(float(step))}

    def health(self) -> tuple[dict[str, float], None]:
        return {}, None

    def validate(self) -> Validation:
        return Validation({"sum": self.sum}, np.zeros((8, 8, 3), np.uint8))

    def state(self) -> dict[str, Any]:
        return {"sum": self.sum}

    def load_state(self, state: Any) -> None:
        self.sum = state["sum"]


LATE = 802
"""Step from which on there is a second loss."""
LENGTH = 1600
"""Steps of a training whose curves have a row every eight: less often than the terms are read."""


def train_scripted(poisoned: Sequence[int], folder: Path, stop: int | None = None) -> Any:
    def source(step: int) -> Generator[Batch, None, None]:
        for number in range(step, LENGTH):
            yield Batch((str(number),))

    return train(
        Scripted(poisoned),
        title="test",
        steps=LENGTH,
        batches=source if stop is None else stopping(stop, source),
        monitoring=Monitoring.model_validate(
            {
                **MONITORING,
                "record_every": 8,
                "validate_every": 700,
                "checkpoint_every": 33,
                "max_skipped_updates": 4,
            }
        ),
        folder=folder,
    )


def test_skipped_updates_are_counted_where_terms_are_read_late(tmp_path: Path) -> None:
    """Those in a row too, across reads, checkpoints and an interruption."""
    poisoned = [6, 7, 8, *range(61, 64), 98, 99, 100]
    whole = train_scripted(poisoned, tmp_path / "whole")
    rows = {row["step"]: row for row in whole.steps}
    assert [rows[step]["skipped_updates"] for step in (8, 16, 64, 104)] == [2, 1, 3, 3]
    assert rows[8]["loss"] == sum(range(6)) / 6
    assert rows[808]["late"] == sum(range(LATE, 808)) / 6, "a mean of the steps that have it"
    with pytest.raises(Interrupted):
        train_scripted(poisoned, tmp_path / "parts", stop=98)
    assert torch.load(tmp_path / "parts/step-000000099.pt")["in_a_row"] == 1
    assert train_scripted(poisoned, tmp_path / "parts") == whole


@pytest.mark.parametrize("stop", [None, 97, 99])
def test_too_many_in_a_row_are_named_where_terms_are_read_late(
    stop: int | None, tmp_path: Path
) -> None:
    poisoned = [3, 4, 5, 97, 98, 99, 100, 101, 102]
    if stop is not None:
        with pytest.raises(Interrupted):
            train_scripted(poisoned, tmp_path, stop)
    with pytest.raises(UserError, match="step 100: loss is nan, and 4 updates in a row"):
        train_scripted(poisoned, tmp_path)
    newest = max(tmp_path.glob("step-*.pt"))
    assert torch.load(newest)["in_a_row"] < 4, "checkpoints before it stay"
