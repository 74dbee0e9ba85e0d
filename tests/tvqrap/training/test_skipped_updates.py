"""Updates that are not finite are skipped and counted."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

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
)
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.signals import Interrupted
from tvqrap.training.batch import Batch

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
    assert task.learner.average.updates == STEPS - 2


def test_skipped_updates_survive_an_interruption(tmp_path: Path) -> None:
    """The count of those in a row too: it ends both trainings at the same step."""
    whole = predictor_task()
    assert run(whole, tmp_path / "whole", poisoned(2, 3)).steps
    parts, stopped = predictor_task(), poisoned(2, 3)

    def stopping(step: int) -> Generator[Batch, None, None]:
        for number, given in enumerate(stopped(step), start=step):
            if number == 2:
                os.kill(os.getpid(), signal.SIGTERM)
            yield given

    with pytest.raises(Interrupted):
        run(predictor_task(), tmp_path / "parts", stopping)
    saved = torch.load(tmp_path / "parts/step-000000003.pt")
    assert (saved["skipped"], saved["in_a_row"]) == (0, 1)
    run(parts, tmp_path / "parts", poisoned(2, 3))
    assert_equal_states(whole.state(), parts.state())


@pytest.mark.parametrize("kind", ["tokenizer", "rap"])
def test_a_discriminator_is_not_poisoned_either(kind: str, tmp_path: Path) -> None:
    """Its own gradient is infinite at one step, that of the network is not."""
    task: Any = TASKS[kind]()
    gradients = iter([1.0] * 4 + [float("inf")] + [1.0] * STEPS)
    weight = next(task.adversary.discriminator.parameters())
    weight.register_hook(lambda gradient: gradient * next(gradients))
    history = run(task, tmp_path)
    assert sum(row["skipped_updates"] for row in history.steps) == 1
    assert task.learner.average.updates == STEPS
    for value in task.adversary.discriminator.parameters():
        assert value.isfinite().all()


def test_too_many_skipped_in_a_row_end_it_with_step_and_term(tmp_path: Path) -> None:
    monitoring = {**MONITORING, "max_skipped_updates": 3}
    with pytest.raises(UserError, match=r"step 6: structure is nan, and 3 updates in a row"):
        run(predictor_task(), tmp_path, poisoned(1, 2, 4, 5, 6), monitoring)
    assert len(list(tmp_path.glob("step-*.pt"))) == 2, "checkpoints before it stay"
