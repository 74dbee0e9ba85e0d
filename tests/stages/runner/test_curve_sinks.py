"""Curves in TensorBoard, DVCLive and Weights & Biases, where their variables ask for them.

DVCLive and wandb are stubs with the methods that the sinks call.
"""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from stages.runner.curve_sinks import CurveSinks
from stages.runner.stage import Stage
from tests.support.states import assert_close_states
from tests.support.training import MONITORING, STEPS, batches, predictor_task
from tvqrap.config.training import Monitoring
from tvqrap.runtime.errors import UsageError
from tvqrap.training import validation
from tvqrap.training.curves import History
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.loop import train

VARIABLES = {
    "TVQRAP_TENSORBOARD": ("torch.utils.tensorboard", "tensorboard"),
    "TVQRAP_DVCLIVE": ("dvclive", "dvclive"),
    "TVQRAP_WANDB": ("wandb", "wandb"),
}
STAGE = Stage(
    "train_tokenizer",
    None,  # type: ignore[arg-type]
    "0123456789",
    Path(".scratch/train_tokenizer-0123456789"),
    {"seed": 1},
)
PICTURE = np.full((4, 6, 3), 100, np.uint8)


@pytest.fixture(autouse=True)
def no_sinks(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)


class Live:
    """Stands for dvclive.Live: keeps what was logged."""

    def __init__(self, folder: str, **options: Any) -> None:
        self.folder, self.options, self.step = folder, options, 0
        self.logged: list[tuple[str, int, Any]] = []
        self.pictures: list[str] = []
        self.ended = False
        opened.append(self)

    def log_metric(self, name: str, value: float) -> None:
        self.logged.append((name, self.step, value))

    def log_image(self, name: str, value: Any) -> None:
        assert value is PICTURE
        self.pictures.append(name)

    def sync(self) -> None:
        pass

    def end(self) -> None:
        self.ended = True


opened: list[Live] = []


class Wandb:
    """Stands for the module wandb and for its runs."""

    def __init__(self) -> None:
        self.options: dict[str, Any] = {}
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.finished = False

    def init(self, **options: Any) -> "Wandb":
        self.options = options
        return self

    def Image(self, picture: Any) -> str:
        assert picture is PICTURE
        return "an image"

    def log(self, data: dict[str, Any], step: int) -> None:
        self.logged.append((step, data))

    def finish(self) -> None:
        self.finished = True


def test_tensorboard_has_rows_and_pictures_and_a_resume_purges_lost_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    monkeypatch.setenv("TVQRAP_TENSORBOARD", str(tmp_path))
    with CurveSinks(STAGE, ALONE) as sinks:
        sinks.start(0, History())
        sinks.row("validation", {"step": 0, "psnr": 20.0}, PICTURE)
        for step in (2, 4, 6):
            sinks.row("steps", {"step": step, "mse": 0.5}, None)
    with CurveSinks(STAGE, ALONE) as sinks:  # after a kill, from the checkpoint of step 4
        sinks.start(4, History())
        sinks.row("steps", {"step": 5, "mse": 0.25}, None)
    found = accumulator.EventAccumulator(str(tmp_path / "train_tokenizer-01234567"))
    found.Reload()
    assert sorted(found.Tags()["scalars"]) == ["steps/mse", "validation/psnr"]
    events = [(event.step, event.value) for event in found.Scalars("steps/mse")]
    assert events == [(2, 0.5), (4, 0.5), (5, 0.25)]
    (image,) = found.Images("validation")
    assert (image.step, image.height, image.width) == (0, 4, 6)


def test_dvclive_starts_anew_with_the_rows_so_far_beside_its_own_dvc_yaml(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TVQRAP_DVCLIVE", str(tmp_path))
    monkeypatch.setitem(sys.modules, "dvclive", SimpleNamespace(Live=Live))  # type: ignore[arg-type]
    history = History(steps=[{"step": 2, "mse": 0.5}], validation=[{"step": 0, "psnr": 20.0}])
    with CurveSinks(STAGE, ALONE) as sinks:
        sinks.start(2, history)
        sinks.row("validation", {"step": 4, "psnr": 21.0}, PICTURE)
    live = opened.pop()
    assert live.logged == [
        ("steps/mse", 2, 0.5),
        ("validation/psnr", 0, 20.0),
        ("validation/psnr", 4, 21.0),
    ]
    assert live.pictures == ["validation/4.png"] and live.ended
    own = tmp_path / "train_tokenizer"
    assert (Path(live.folder), live.options["dvcyaml"]) == (own / "curves", str(own / "dvc.yaml"))
    assert live.options["save_dvc_exp"] is False


def test_wandb_goes_on_with_the_run_of_the_fingerprint(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TVQRAP_WANDB", "a project")
    wandb = Wandb()
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    with CurveSinks(STAGE, ALONE) as sinks:
        sinks.start(2, History(steps=[{"step": 2, "mse": 0.5}]))
        sinks.row("steps", {"step": 3, "mse": 0.25}, None)
        sinks.row("validation", {"step": 4, "psnr": 21.0}, PICTURE)
    assert wandb.options["project"] == "a project" and wandb.options["config"] == {"seed": 1}
    assert (wandb.options["id"], wandb.options["resume"]) == (STAGE.scratch.name, "allow")
    assert wandb.logged == [
        (3, {"steps/mse": 0.25}),
        (4, {"validation/psnr": 21.0, "validation/picture": "an image"}),
    ]
    assert wandb.finished


@pytest.mark.parametrize("fails", ["init", "log", "finish"])
def test_a_failing_sink_is_one_line_and_changes_no_weight(
    fails: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def failing(*arguments: Any, **options: Any) -> Any:
        torch.rand(3)  # draws from the generator that others draw from
        raise RuntimeError("no network\nwith a second line")

    # Validation scores do not matter here.
    monkeypatch.setattr(validation, "perceptual_distance", lambda name: torch.nn.PairwiseDistance())
    monkeypatch.setenv("TVQRAP_WANDB", "a project")
    monkeypatch.setenv("TVQRAP_DVCLIVE", str(tmp_path / "live"))
    wandb = Wandb()
    wandb.Image = lambda picture: "an image"  # type: ignore[method-assign]
    monkeypatch.setattr(wandb, fails, failing)
    monkeypatch.setitem(sys.modules, "wandb", wandb)  # type: ignore[arg-type]
    monkeypatch.setattr(Live, "log_image", lambda *arguments: None)
    monkeypatch.setitem(sys.modules, "dvclive", SimpleNamespace(Live=Live))  # type: ignore[arg-type]

    def trained(name: str, stage: Stage, workers: Workers) -> Any:
        task = predictor_task()
        with CurveSinks(stage, workers) as sinks:
            train(
                task,
                title="test",
                steps=STEPS,
                batches=batches,
                monitoring=Monitoring.model_validate(MONITORING),
                folder=tmp_path / name,
                sink=sinks,
            )
        return task.state()

    watched = trained("watched", STAGE, ALONE)
    lines = capsys.readouterr().err.splitlines()
    note = "train_tokenizer: wandb: no network; the training goes on without its curves"
    assert [line for line in lines if "wandb" in line] == [note]
    live = opened.pop()
    assert {step for _, step, _ in live.logged} == set(range(STEPS + 1)) and live.ended
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    assert_close_states(watched, trained("alone", STAGE, ALONE), 0)


def test_without_the_variables_or_on_other_workers_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not CurveSinks(STAGE, ALONE).sinks
    monkeypatch.setenv("TVQRAP_TENSORBOARD", str(tmp_path))
    assert not CurveSinks(STAGE, Workers(1, 2)).sinks
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("variable", VARIABLES)
def test_without_the_package_it_is_one_line(
    variable: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, package = VARIABLES[variable]
    monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UsageError, match=f"{variable} is set, but {package} is not installed"):
        CurveSinks(STAGE, ALONE)


def test_a_training_that_fails_before_its_first_step_leaves_the_sinks_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TVQRAP_TENSORBOARD", str(tmp_path))
    with pytest.raises(ZeroDivisionError), CurveSinks(STAGE, ALONE):
        raise ZeroDivisionError
    assert capsys.readouterr().err == "" and not list(tmp_path.iterdir())
