"""Passes the curves of a running training to TensorBoard, DVCLive and Weights & Biases.

An environment variable asks for each. A sink that fails is left out with one line; the training
goes on, with the same weights. Files of the sinks are no outputs of the stage.
"""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from stages.runner.stage import SCRATCH, Stage
from tvqrap.runtime.errors import UsageError, first_line
from tvqrap.training.curves import History, Row
from tvqrap.training.distributed import Workers

Picture = NDArray[np.uint8]


class _Sink(Protocol):
    """One program that shows curves. Its methods may raise anything."""

    def start(self, step: int, history: History) -> None: ...

    def row(self, kind: str, row: Row, picture: Picture | None) -> None: ...

    def close(self) -> None: ...


class _TensorBoard:
    """Writes to a folder named after the run; events of lost steps are purged."""

    def __init__(self, stage: Stage, folder: str) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.open = SummaryWriter
        self.folder = Path(folder) / f"{stage.name}-{stage.fingerprint[:8]}"

    def start(self, step: int, history: History) -> None:
        self.writer = self.open(str(self.folder), purge_step=step + 1 if step else 0)

    def row(self, kind: str, row: Row, picture: Picture | None) -> None:
        for name, value in _values(row):
            self.writer.add_scalar(f"{kind}/{name}", value, int(row["step"]))
        if picture is not None:
            self.writer.add_image(kind, picture, int(row["step"]), dataformats="HWC")
        self.writer.flush()

    def close(self) -> None:
        self.writer.close()


class _DvcLive:
    """Writes the files of DVCLive for one stage; at a resume it writes the earlier rows again."""

    def __init__(self, stage: Stage, folder: str) -> None:
        from dvclive import Live

        self.open, self.folder = Live, Path(folder) / stage.name
        # DVCLive replaces its entries in a dvc.yaml above its folder, and repeats them in its own.
        # The default is the dvc.yaml of the pipeline.
        self.dvcyaml = self.folder / "dvc.yaml"

    def start(self, step: int, history: History) -> None:
        self.live = self.open(
            str(self.folder / "curves"), save_dvc_exp=False, dvcyaml=str(self.dvcyaml)
        )
        for kind in ("steps", "validation", "speed"):
            for row in getattr(history, kind):
                self._log(kind, row)
        self.live.sync()

    def row(self, kind: str, row: Row, picture: Picture | None) -> None:
        self._log(kind, row)
        if picture is not None:
            self.live.log_image(f"{kind}/{int(row['step'])}.png", picture)
        self.live.sync()

    def _log(self, kind: str, row: Row) -> None:
        self.live.step = int(row["step"])
        for name, value in _values(row):
            self.live.log_metric(f"{kind}/{name}", value)

    def close(self) -> None:
        self.live.end()


class _WeightsAndBiases:
    """Logs to a run of the training's fingerprint, which goes on at a resume.

    With WANDB_MODE=offline its files stay in the scratch folder, and `wandb sync` uploads them.
    """

    def __init__(self, stage: Stage, project: str) -> None:
        import wandb

        self.wandb, self.stage, self.project = wandb, stage, project

    def start(self, step: int, history: History) -> None:
        name = self.stage.scratch.name
        self.run = self.wandb.init(
            project=self.project,
            id=name,
            name=name,
            resume="allow",
            config=dict(self.stage.values),
            dir=str(SCRATCH),
        )

    def row(self, kind: str, row: Row, picture: Picture | None) -> None:
        data: dict[str, Any] = {f"{kind}/{name}": value for name, value in _values(row)}
        if picture is not None:
            data[f"{kind}/picture"] = self.wandb.Image(picture)
        self.run.log(data, step=int(row["step"]))

    def close(self) -> None:
        self.run.finish()


_SINKS: tuple[tuple[str, str, Callable[[Stage, str], _Sink]], ...] = (
    ("TVQRAP_TENSORBOARD", "tensorboard", _TensorBoard),
    ("TVQRAP_DVCLIVE", "dvclive", _DvcLive),
    ("TVQRAP_WANDB", "wandb", _WeightsAndBiases),
)
"""(variable, package, sink). The variable has a folder; that of Weights & Biases a project."""


class CurveSinks:
    """The sinks that the environment asks for; none on other workers than the main one.

    A context manager that closes them. Raises `UsageError` where a package is not installed.
    """

    def __init__(self, stage: Stage, workers: Workers) -> None:
        self.stage = stage.name
        self.sinks: dict[str, _Sink] = {}
        self.started = False
        for variable, package, sink in _SINKS:
            value = os.environ.get(variable)
            if not value or not workers.is_main:
                continue
            try:
                self.sinks[package] = sink(stage, value)
            except ImportError:
                raise UsageError(
                    f"{variable} is set, but {package} is not installed; expected `pip install "
                    f"{package}`, or the variable unset"
                ) from None

    def start(self, step: int, history: History) -> None:
        """Starts each sink after `step` steps of the training."""
        self.started = True
        self._each(lambda sink: sink.start(step, history))

    def row(self, kind: str, row: Row, picture: Picture | None) -> None:
        """Passes a row on, with the picture of a validation, uint8 (H, W, 3)."""
        self._each(lambda sink: sink.row(kind, row, picture))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.started:
            self._each(lambda sink: sink.close())

    def _each(self, call: Callable[[_Sink], None]) -> None:
        for package, sink in list(self.sinks.items()):
            try:
                call(sink)
            except Exception as error:  # whatever a program of others raises
                del self.sinks[package]
                print(
                    f"{self.stage}: {package}: {first_line(error)}; the training goes on without "
                    "its curves",
                    file=sys.stderr,
                    flush=True,
                )


def _values(row: Row) -> list[tuple[str, float]]:
    return [(name, value) for name, value in row.items() if name != "step"]
