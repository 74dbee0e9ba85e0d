"""Curves of a training: rows of numbers over steps, as TSV for plots."""

from dataclasses import dataclass, field
from pathlib import Path

from tvqrap.files import write_whole

Row = dict[str, float]


@dataclass
class History:
    """What a training recorded so far; part of its checkpoints, so that nothing doubles."""

    steps: list[Row] = field(default_factory=list)
    """Terms averaged over the steps since the row before."""
    validation: list[Row] = field(default_factory=list)

    def write(self, folder: Path) -> None:
        """Writes `steps.tsv` and `validation.tsv`, each whole or not at all."""
        for name, rows in (("steps", self.steps), ("validation", self.validation)):
            columns = list(dict.fromkeys(column for row in rows for column in row)) or ["step"]
            lines = ["\t".join(columns)]
            lines += ["\t".join(_cell(row.get(column)) for column in columns) for row in rows]
            write_whole(folder / f"{name}.tsv", "\n".join(lines) + "\n")


def _cell(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.6g}"
