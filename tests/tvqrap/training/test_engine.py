"""Interrupted anywhere, a training ends with the weights of one that was not."""

import os
import signal
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.tvqrap.training.material import (
    MONITORING,
    batch,
    predictor_trainee,
    rap_trainee,
    tokenizer_trainee,
)
from tvqrap.errors import UserError
from tvqrap.training.batch import Batch
from tvqrap.training.engine import train
from tvqrap.training.history import History
from tvqrap.training.interruption import Interrupted
from tvqrap.training.settings import Monitoring

STEPS = 8
TRAINEES = {
    "tokenizer": tokenizer_trainee,
    "predictor": predictor_trainee,
    "rap": rap_trainee,
}


def batches(step: int) -> Generator[Batch, None, None]:
    while True:
        yield batch(step)
        step += 1


def run(trainee: Any, folder: Path, source: Any = batches) -> History:
    return train(
        trainee,
        title="test",
        steps=STEPS,
        batches=source,
        monitoring=Monitoring.model_validate(MONITORING),
        checkpoints=folder,
    )


def flattened(value: Any, name: str = "") -> dict[str, Any]:
    if isinstance(value, dict):
        return {
            k: v for key, each in value.items() for k, v in flattened(each, f"{name}.{key}").items()
        }
    if isinstance(value, list | tuple):
        return flattened(dict(enumerate(value)), name)
    return {name: value}


def assert_equal_states(ours: Any, theirs: Any) -> None:
    left, right = flattened(ours), flattened(theirs)
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, right[name]), name
        else:
            assert value == right[name], name


@pytest.mark.parametrize("kind", TRAINEES)
def test_stopped_by_a_signal_it_goes_on_to_the_same_state(kind: str, tmp_path: Path) -> None:
    whole = TRAINEES[kind]()
    history = run(whole, tmp_path / "whole")

    def stopping_at(stop: int) -> Any:
        def source(step: int) -> Generator[Batch, None, None]:
            for number in range(step, STEPS):
                if number == stop:
                    os.kill(os.getpid(), signal.SIGTERM)
                yield batch(number)

        return source

    for stop in (0, 2, 3, 6):
        with pytest.raises(Interrupted):
            run(TRAINEES[kind](), tmp_path / "parts", stopping_at(stop))
    parts = TRAINEES[kind]()
    assert run(parts, tmp_path / "parts") == history
    assert_equal_states(whole.state(), parts.state())


def test_killed_between_checkpoints_it_goes_on_from_the_last_one(tmp_path: Path) -> None:
    whole = tokenizer_trainee()
    run(whole, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def dying(step: int) -> Generator[Batch, None, None]:
        for number in range(step, STEPS):
            if number == 5:
                raise Killed
            yield batch(number)

    with pytest.raises(Killed):
        run(tokenizer_trainee(), tmp_path / "parts", dying)
    seen: list[int] = []

    def noting(step: int) -> Generator[Batch, None, None]:
        seen.append(step)
        return batches(step)

    parts = tokenizer_trainee()
    run(parts, tmp_path / "parts", noting)
    assert seen == [3]
    assert_equal_states(whole.state(), parts.state())


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole = predictor_trainee()
    run(whole, tmp_path)
    newest, older = sorted(tmp_path.glob("step-*.pt"))[::-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    again = predictor_trainee()
    run(again, tmp_path)
    assert_equal_states(whole.state(), again.state())
    assert older.exists()


def test_two_checkpoints_are_kept_and_nothing_temporary(tmp_path: Path) -> None:
    run(predictor_trainee(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "step-000000006.pt",
        "step-000000008.pt",
    ]


def test_a_full_disk_is_one_sentence_and_keeps_the_last_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved = torch.save
    calls = 0

    def full(*arguments: Any) -> None:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise OSError(28, "No space left on device")
        saved(*arguments)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(UserError, match="No space left on device"):
        run(predictor_trainee(), tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["step-000000003.pt"]


def test_a_loss_that_is_not_finite_names_step_and_term(tmp_path: Path) -> None:
    trainee = predictor_trainee()

    def poisoned(step: int) -> Generator[Batch, None, None]:
        for number in range(step, STEPS):
            given = batch(number)
            if number == 4:
                assert given.structure is not None
                given.structure[0, 0, 0, 0] = float("nan")
            yield given

    with pytest.raises(UserError, match=r"step 4: structure is nan"):
        run(trainee, tmp_path, poisoned)
    assert [path.name for path in tmp_path.glob("*.pt")] == ["step-000000003.pt"]


def test_the_history_has_every_validation_and_is_written_whole(tmp_path: Path) -> None:
    history = run(rap_trainee(), tmp_path / "checkpoints")
    assert [row["step"] for row in history.validation] == [0, 4, 8]
    assert [row["step"] for row in history.steps] == list(range(1, 9))
    history.write(tmp_path / "curves")
    lines = (tmp_path / "curves/steps.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:2] == ["step", "mse"]
    assert len(lines) == 9
    # The GAN term starts at step 1: its column exists, its first cell is empty.
    assert lines[1].split("\t")[lines[0].split("\t").index("adaptive_weight")] == ""
