"""Curves of a training: rows of scalars over steps, written as TSV for plots."""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tvqrap.runtime.atomic import write_atomic

Row = dict[str, float]

SOMETIMES = ("adaptive_weight", "judged_real", "judged_fake")
"""Terms that have a column even in trainings without them, so that plots find it."""


@dataclass
class History:
    """Rows recorded so far; checkpoints hold them, so that a resumed run repeats no row."""

    steps: list[Row] = field(default_factory=list)
    """Terms averaged over the steps since the previous row."""
    validation: list[Row] = field(default_factory=list)
    """Scores of the averaged weights on validation samples."""
    speed: list[Row] = field(default_factory=list, compare=False)
    """Samples per second over the same steps; it differs between runs."""

    def write(self, folder: Path) -> None:
        """Writes `steps.tsv`, `validation.tsv`, `speed.tsv`, and their last rows as `metrics.json`.

        Each file is written whole or not at all.
        """
        for name, rows in asdict(self).items():
            columns = list(dict.fromkeys(column for row in rows for column in row)) or ["step"]
            if name == "steps":
                columns = list(dict.fromkeys([*columns, *SOMETIMES]))
            lines = ["\t".join(columns)]
            lines += ["\t".join(_cell(row.get(column)) for column in columns) for row in rows]
            write_atomic(folder / f"{name}.tsv", "\n".join(lines) + "\n")
        last = {name: rows[-1] for name, rows in asdict(self).items() if rows}
        write_atomic(folder / "metrics.json", json.dumps(last, indent=2) + "\n")


class CurveSink(Protocol):
    """Passes the curves of a running training to another program. It raises nothing."""

    def start(self, step: int, history: History) -> None:
        """Begins after `step` steps with the rows so far; later rows of an earlier run are void."""
        ...

    def row(self, kind: str, row: Row, picture: NDArray[np.uint8] | None) -> None:
        """Takes a row of `steps`, `validation` or `speed`; validation has a picture (H, W, 3)."""
        ...


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
