"""Interrupted anywhere, a training ends with the weights of one that was not."""

import json
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support.paths import ROOT
from tests.support.states import flattened
from tests.support.training import (
    COMPUTE,
    MONITORING,
    STEPS,
    TASKS,
    assert_equal_states,
    batch,
    batches,
    predictor_task,
    rap_task,
    run,
    stopping,
    tokenizer_task,
)
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.signals import Interrupted
from tvqrap.training.batch import Batch
from tvqrap.training.curves import History, Row
from tvqrap.training.record import TrainingRecord

pytestmark = pytest.mark.usefixtures("small_distance")


@pytest.mark.parametrize("kind", TASKS)
def test_stopped_by_a_signal_it_goes_on_to_the_same_state(kind: str, tmp_path: Path) -> None:
    whole = TASKS[kind]()
    history = run(whole, tmp_path / "whole")

    for stop in (0, 2, 3, 6):
        with pytest.raises(Interrupted):
            run(TASKS[kind](), tmp_path / "parts", stopping(stop))
    parts = TASKS[kind]()
    assert run(parts, tmp_path / "parts") == history
    assert_equal_states(whole.state(), parts.state())


def test_killed_between_checkpoints_it_goes_on_from_the_last_one(tmp_path: Path) -> None:
    whole = tokenizer_task()
    run(whole, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def dying(step: int) -> Generator[Batch, None, None]:
        for number in range(step, STEPS):
            if number == 5:
                raise Killed
            yield batch(number)

    with pytest.raises(Killed):
        run(tokenizer_task(), tmp_path / "parts", dying)
    seen: list[int] = []

    def noting(step: int) -> Generator[Batch, None, None]:
        seen.append(step)
        return batches(step)

    parts = tokenizer_task()
    run(parts, tmp_path / "parts", noting)
    assert seen == [3]
    assert_equal_states(whole.state(), parts.state())


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path) -> None:
    whole = predictor_task()
    run(whole, tmp_path)
    newest, older = sorted(tmp_path.glob("step-*.pt"))[::-1]
    newest.write_bytes(newest.read_bytes()[:1000])
    again = predictor_task()
    run(again, tmp_path)
    assert_equal_states(whole.state(), again.state())
    assert older.exists()


def test_two_checkpoints_are_kept_and_nothing_temporary(tmp_path: Path) -> None:
    run(predictor_task(), tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "pictures",
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
        run(predictor_task(), tmp_path)
    assert [path.name for path in tmp_path.glob("*step*")] == ["step-000000003.pt"]


def test_milestones_are_kept_for_good(tmp_path: Path) -> None:
    run(predictor_task(), tmp_path, monitoring={**MONITORING, "keep_every": 2})
    found = sorted(int(path.stem.removeprefix("step-")) for path in tmp_path.glob("*.pt"))
    assert found == [2, 4, 6, 8]


@pytest.mark.parametrize(("steps", "ends"), [(5, 6), (6, 6)])
def test_fewer_steps_than_the_checkpoint_has_end_it_with_whole_curves(
    steps: int, ends: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monitoring = {**MONITORING, "checkpoint_every": 6}

    def dying(step: int) -> Generator[Batch, None, None]:
        for number in range(step, 7):
            yield batch(number)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(predictor_task(), tmp_path, dying, monitoring)
    task = predictor_task()
    history = run(task, tmp_path, monitoring=monitoring, steps=steps)
    assert history.validation[-1]["step"] == history.steps[-1]["step"] == ends
    assert ("ends here, as 5 steps" in capsys.readouterr().out) == (steps == 5)
    assert task.learner.average.updates == ends


def test_a_checkpoint_of_other_code_is_one_line(tmp_path: Path) -> None:
    run(predictor_task(), tmp_path)
    for path in tmp_path.glob("*.pt"):
        saved = torch.load(path)
        del saved["task"]["usage"]
        torch.save(saved, path)
    with pytest.raises(UserError, match=r"checkpoint of step 8 does not fit .*'usage'"):
        run(predictor_task(), tmp_path)


def test_changes_are_recorded_with_their_step(tmp_path: Path) -> None:
    for number in range(3):
        record = TrainingRecord({"rate": number, "same": 1}, code={"a.py": str(number // 2)})
        with pytest.raises(Interrupted):
            run(predictor_task(), tmp_path, stopping(2 * number + 1), record=record)
    assert record.changes == [
        {"step": 2, "params": {"rate": [0, 1]}, "code": []},
        {"step": 4, "params": {"rate": [1, 2]}, "code": ["a.py"]},
    ]


@pytest.mark.slow
def test_killed_at_random_again_and_again_it_ends_the_same(tmp_path: Path) -> None:
    """SIGKILL, at no point of our choosing: in a step, while saving, while starting."""
    script = (
        "import sys, torch\nfrom pathlib import Path\n"
        "from tests.tvqrap.training.test_loop import run, tokenizer_task\n"
        "from tests.tvqrap.conftest import Blurred\n"
        "from tvqrap.objectives.image_losses import image_loss\n"
        "from tvqrap.training import validation\n"
        "torch.set_num_threads(1)\n"
        "for module in (image_loss, validation):\n"
        "    module.perceptual_distance = lambda name: Blurred()\n"
        "task = tokenizer_task()\n"
        "print('ready', flush=True)\n"
        "run(task, Path(sys.argv[1]))\n"
        # Renamed into place: a kill may also come while the end is being written.
        "torch.save(task.state(), sys.argv[1] + '/end.part')\n"
        "Path(sys.argv[1], 'end.part').rename(sys.argv[1] + '/end.pt')\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    root, random = ROOT, np.random.default_rng()
    kills, seconds = 0, 0.5
    while not (tmp_path / "end.pt").exists():
        process = subprocess.Popen(command, cwd=root, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == "ready"
        try:
            process.wait(random.uniform(0, seconds))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills, seconds = kills + 1, seconds * 1.5
    assert kills > 0
    whole = tokenizer_task()
    run(whole, tmp_path / "whole")
    assert_equal_states(whole.state(), torch.load(tmp_path / "end.pt"))


def test_pictures_are_taken_of_every_look(tmp_path: Path) -> None:
    run(rap_task(), tmp_path)
    pictures = sorted((tmp_path / "pictures").iterdir())
    assert [path.stem for path in pictures] == ["000000000", "000000004", "000000008"]
    given = batch(1000)
    assert given.hr is not None and given.lr is not None
    first, last = (np.asarray(Image.open(path)) for path in (pictures[0], pictures[-1]))
    assert first.shape == (3 * 64, 2 * 64, 3), "LR, what was made of it, HR; two samples"
    assert np.array_equal(last[0::4, 64::4][:16], given.lr[1])
    assert np.array_equal(last[128:, :64], given.hr[0])
    assert np.array_equal(first[:64], last[:64]) and not np.array_equal(first, last)


def test_a_warning_is_given_once(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = predictor_task()
    task.health = lambda: ({}, "collapsing")  # type: ignore[method-assign]
    run(task, tmp_path)
    assert capsys.readouterr().out.count("test: step 1: warning: collapsing") == 1


class Rows:
    """A sink that keeps what it is given."""

    def __init__(self) -> None:
        self.starts: list[tuple[int, int]] = []
        self.rows: list[tuple[str, Row]] = []
        self.pictures: list[int] = []

    def start(self, step: int, history: History) -> None:
        self.starts.append((step, len(history.steps)))

    def row(self, kind: str, row: Row, picture: Any) -> None:
        self.rows.append((kind, row))
        if picture is not None:
            assert kind == "validation" and picture.shape == (3 * 64, 2 * 64, 3)
            self.pictures.append(int(row["step"]))


def test_a_sink_gets_every_row_and_the_pictures(tmp_path: Path) -> None:
    sink = Rows()
    task = predictor_task()
    history = run(task, tmp_path, sink=sink)
    for kind in ("steps", "validation", "speed"):
        assert [row for other, row in sink.rows if other == kind] == getattr(history, kind)
    assert sink.starts == [(0, 0)] and sink.pictures == [0, 4, 8]


def test_a_resumed_training_starts_its_sink_at_the_checkpoint(tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        run(predictor_task(), tmp_path, stopping(4))
    sink = Rows()
    run(predictor_task(), tmp_path, sink=sink)
    assert sink.starts == [(5, 5)] and sink.pictures == [8]
    assert [row["step"] for kind, row in sink.rows if kind == "steps"] == [6, 7, 8]


@pytest.mark.parametrize(("every", "steps"), [(3, [3, 6, 8]), (50, [8])])
def test_rows_come_every_so_many_steps_and_at_the_end(
    every: int, steps: list[int], tmp_path: Path
) -> None:
    history = run(predictor_task(), tmp_path, monitoring={**MONITORING, "record_every": every})
    assert [row["step"] for row in history.steps] == steps
    assert [row["step"] for row in history.speed] == steps


@pytest.mark.parametrize("kind", TASKS)
def test_no_steps_hand_on_what_was_given(kind: str, tmp_path: Path) -> None:
    task = TASKS[kind]()
    before = flattened(task.state())
    history = run(task, tmp_path, steps=0)
    assert [row["step"] for row in history.validation] == [0] and history.steps == []
    assert_equal_states(before, flattened(task.state()))
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.parametrize("kind", TASKS)
def test_bfloat16_is_close_and_keeps_weights_in_float32(kind: str) -> None:
    narrow = COMPUTE.model_copy(update={"precision": "bfloat16"})
    ours, theirs = (
        TASKS[kind](compute=compute).update(batch(0), 2) for compute in (narrow, COMPUTE)
    )
    watched = "cross_entropy" if kind == "predictor" else "mse"
    assert ours[watched].dtype == torch.float32
    torch.testing.assert_close(ours[watched], theirs[watched], rtol=0.05, atol=0)


@pytest.mark.parametrize("kind", ["tokenizer", "rap", "rap, decoder"])
def test_recomputed_blocks_take_the_same_steps_to_the_last_bit(kind: str) -> None:
    recomputing = COMPUTE.model_copy(update={"activation_checkpointing": True})
    ours, theirs = (TASKS[kind](compute=compute) for compute in (recomputing, COMPUTE))
    for step in (1, 2, 3):  # with the GAN term, and k-means in between
        found, wanted = ours.update(batch(step), step), theirs.update(batch(step), step)
        assert_equal_states(found, wanted)
    assert_equal_states(ours.state(), theirs.state())


@pytest.mark.slow
def test_recomputed_blocks_can_be_compiled() -> None:
    plain = COMPUTE.model_copy(update={"precision": "float64"})
    both = plain.model_copy(update={"compile": True, "activation_checkpointing": True})
    ours, theirs = (TASKS["rap"](compute=compute) for compute in (both, plain))
    for step in (1, 2):
        found, wanted = ours.update(batch(step), step), theirs.update(batch(step), step)
        torch.testing.assert_close(found["mse"], wanted["mse"], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["tokenizer", "predictor", "rap", "rap, soft"])
def test_compiled_blocks_take_the_same_steps(kind: str, tmp_path: Path) -> None:
    # In float64: in float32 the adaptive weight, a ratio of small gradients, says little.
    plain = COMPUTE.model_copy(update={"precision": "float64"})
    compiled = plain.model_copy(update={"compile": True})
    ours, theirs = (TASKS[kind](compute=compute) for compute in (compiled, plain))
    for step in range(3):
        found, wanted = ours.update(batch(step), step), theirs.update(batch(step), step)
        for name in ("mse", "cross_entropy", "adaptive_weight"):
            if name in wanted:
                torch.testing.assert_close(found[name], wanted[name], rtol=1e-6, atol=1e-9)
    assert ours.state().keys() == theirs.state().keys()
    assert flattened(ours.state()).keys() == flattened(theirs.state()).keys()


def test_the_history_has_every_validation_and_is_written_whole(tmp_path: Path) -> None:
    history = run(rap_task(), tmp_path / "checkpoints")
    assert [row["step"] for row in history.validation] == [0, 4, 8]
    assert [row["step"] for row in history.steps] == list(range(1, 9))
    assert [row["step"] for row in history.speed] == list(range(1, 9))
    assert all(row["samples_per_second"] > 0 for row in history.speed)
    for name in ("psnr", "stlpips_vgg", "code_accuracy"):
        assert name in history.validation[0], name
    for name in ("gradient_norm", "judged_real", "judged_fake", "codes_used", "perplexity"):
        assert name in history.steps[-1], name
    history.write(tmp_path / "curves")
    last = json.loads((tmp_path / "curves/metrics.json").read_text())
    assert last["validation"] == history.validation[-1] and last["steps"]["step"] == 8
    lines = (tmp_path / "curves/steps.tsv").read_text().splitlines()
    assert lines[0].split("\t")[:2] == ["step", "mse"]
    assert len(lines) == 9
    # The GAN term starts at step 1: its column exists, its first cell is empty.
    assert lines[1].split("\t")[lines[0].split("\t").index("adaptive_weight")] == ""
