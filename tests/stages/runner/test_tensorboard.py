"""Curves in TensorBoard, where its variable names a folder."""

import sys
from pathlib import Path

import pytest

from stages.runner.stage import Stage
from stages.runner.tensorboard import VARIABLE, tensorboard
from tvqrap.runtime.errors import UsageError
from tvqrap.training.distributed import ALONE, Workers

STAGE = Stage("train_tokenizer", None, "0123456789", Path())  # type: ignore[arg-type]


def test_rows_go_to_a_folder_named_after_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    report = tensorboard(STAGE, ALONE)
    assert report is not None
    report("steps", {"step": 3, "mse": 0.5})
    report("validation", {"step": 4, "psnr": 20.0})
    found = accumulator.EventAccumulator(str(tmp_path / "train_tokenizer-01234567"))
    found.Reload()
    assert found.Tags()["scalars"] == ["steps/mse", "validation/psnr"]
    (event,) = found.Scalars("steps/mse")
    assert (event.step, event.value) == (3, 0.5)


def test_without_the_variable_or_on_other_workers_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert tensorboard(STAGE, ALONE) is None
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    assert tensorboard(STAGE, Workers(1, 2)) is None


def test_without_the_package_it_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, str(tmp_path))
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(UsageError, match="tensorboard is not installed"):
        tensorboard(STAGE, ALONE)
