"""Writes the curves of a running training for TensorBoard."""

import os
from collections.abc import Callable
from pathlib import Path

from stages.runner.stage import Stage
from tvqrap.runtime.errors import UsageError
from tvqrap.training.curves import Row
from tvqrap.training.distributed import Workers

VARIABLE = "TVQRAP_TENSORBOARD"


def tensorboard(stage: Stage, workers: Workers) -> Callable[[str, Row], None] | None:
    """A function that writes rows of the curves to the folder in TVQRAP_TENSORBOARD.

    None where the variable is not set, and on all workers but the first.

    Raises `UsageError` where the package is not installed.
    """
    folder = os.environ.get(VARIABLE)
    if not folder or not workers.is_main:
        return None
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        raise UsageError(
            f"{VARIABLE} is set, but tensorboard is not installed; expected `pip install "
            "tensorboard`, or the variable unset"
        ) from None
    writer = SummaryWriter(str(Path(folder) / f"{stage.name}-{stage.fingerprint[:8]}"))

    def report(kind: str, row: Row) -> None:
        for name, value in row.items():
            if name != "step":
                writer.add_scalar(f"{kind}/{name}", value, int(row["step"]))
        writer.flush()

    return report
