"""Trainings with checkpoints are listed, exported as models, and deleted by request alone."""

import re
from pathlib import Path

import pytest
import torch

from stages.runner.stage import Stage
from stages.training import TrainedModel, start_training
from tests.support.commands import run
from tests.support.training import (
    ARCHITECTURE,
    predictor_task,
    rap_task,
    stopping,
    tokenizer_task,
)
from tvqrap.architecture import Architecture
from tvqrap.pretrained.folder import load_tokenizer, read_config
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.signals import Interrupted
from tvqrap.training.distributed import ALONE
from tvqrap.training.loop import train

pytestmark = pytest.mark.usefixtures("small_distance")

MAKE = {
    "train_tokenizer": ("tokenizer", tokenizer_task),
    "train_predictor": ("predictor", predictor_task),
    "finetune_rap": ("rap", rap_task),
}


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dvc.yaml").write_text("")
    (tmp_path / "stages/profiles").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)


def cli(*arguments: str, code: int = 0) -> str:
    done = run("runs", *arguments)
    assert done.exit_code == code, done.output
    return done.output


def interrupted(name: str) -> object:
    """A training of a stage that ends after three steps; its task."""
    section, make = MAKE[name]
    task = make()
    values = {section: task.settings.model_dump(mode="json")}
    stage = Stage(name, None, "", Path(f".scratch/{name}-01"), values)  # type: ignore[arg-type]
    network = task.tokenizer if section == "tokenizer" else task.network
    kind = "tokenizer" if section == "tokenizer" else "upscaler"
    model = TrainedModel(section, kind, ARCHITECTURE, None)  # type: ignore[arg-type]
    record = start_training(stage, model, network, task.settings, ALONE)

    with pytest.raises(Interrupted):
        train(
            task,
            title=name,
            steps=8,
            batches=stopping(2),
            monitoring=task.settings.monitoring.model_copy(update={"checkpoint_every": 2}),
            folder=stage.scratch,
            record=record,
        )
    return task


@pytest.mark.parametrize("name", MAKE)
def test_a_checkpoint_becomes_a_model(name: str) -> None:
    task = interrupted(name)
    output = cli("export", f"{name}-01", "-o", "given/model")
    assert f"after 3 steps of {name}" in output
    about = read_config(Path("given/model")).about
    assert (about["steps"], about["stage"]) == (3, name)
    load = load_tokenizer if name == "train_tokenizer" else load_upscaler
    found = load(Path("given/model")).state_dict()  # type: ignore[operator]
    prefix = "predictor." if name == "train_predictor" else ""
    average = task.learner.average.module.state_dict()  # type: ignore[attr-defined]
    for key, value in average.items():
        assert torch.equal(found[prefix + key], value), key
    assert "holds a model already" in cli("export", f"{name}-01", "-o", "given/model", code=1)
    cli("export", f"{name}-01", "-o", "given/model", "--overwrite", "--step", "2")
    assert read_config(Path("given/model")).about["steps"] == 2
    wrong = cli("export", f"{name}-01", "-o", "other", "--step", "9", code=1)
    assert "--step: found 9, expected one of 2, 3" in wrong
    assert isinstance(read_config(Path("given/model")).architecture, Architecture)


def test_trainings_are_listed_and_deleted_by_name() -> None:
    assert cli() == "no training has a checkpoint\n"
    interrupted("train_predictor")
    line = cli().splitlines()[1]
    assert re.match(r"train_predictor-01 +unfinished +3 +2 +0 +\S+ [kM] ", line), line
    wrong = cli("delete", "train_predictor-02", code=1)
    assert "expected one of: train_predictor-01" in wrong
    assert "train_predictor-01: deleted" in cli("delete", "train_predictor-01")
    assert not list(Path(".scratch").glob("train*-01"))


def test_without_the_network_of_its_start_it_is_one_line() -> None:
    interrupted("train_predictor")
    Path(".scratch/train_predictor-01/network/model.json").unlink()
    assert "model.json is missing" in cli("export", "train_predictor-01", "-o", "out", code=1)


@pytest.mark.parametrize("damaged", [b"", b"no checkpoint", b"\x80\x02c__builtin__\neval\n."])
def test_a_damaged_checkpoint_is_one_line(damaged: bytes) -> None:
    interrupted("train_predictor")
    for path in Path(".scratch/train_predictor-01").glob("step-*.pt"):
        path.write_bytes(damaged)
    said = cli("export", "train_predictor-01", "-o", "out", code=1)
    assert "not readable as a checkpoint" in said and said.count("\n") == 1
