"""The scores of an evaluation that has not finished, in a folder that a later run continues.

`request.json` holds the protocol of the evaluation, `scored.jsonl` one line per scored image.
"""

import contextlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvqrap.evaluation.cases import ImageScores, Scored
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.statistics.codebook import count_codes
from tvqrap.runtime.atomic import naming, write_atomic
from tvqrap.runtime.documents import Document, parse_document
from tvqrap.runtime.errors import UserError

UNFINISHED = "unfinished"
"""Name of such a folder beside the results."""
REQUEST, SCORED, IMAGES = "request.json", "scored.jsonl", "images"


class ScoredImage(Document):
    """The scores of one image by every model."""

    number: int
    """Place of the image in its set."""
    image: str
    photo: str
    scores: dict[str, dict[str, float | str]]
    """By model and metric: the score, or the reason why there is none."""
    codes: dict[str, list[tuple[int, int]]]
    """By model: codes of the image, each with the number of its places."""
    tiled: list[str]
    """Models that upscaled the image in tiles."""
    notes: list[str]

    @classmethod
    def of(cls, number: int, scored: Scored, codebook: int | None) -> "ScoredImage":
        """Converts a case and its scores; `codebook` is needed for a case with codes."""
        codes = {}
        for model, found in scored.case.codes.items():
            assert codebook is not None
            counts = count_codes(found, codebook)
            codes[model] = [(int(code), int(counts[code])) for code in np.flatnonzero(counts)]
        return cls(
            number=number,
            image=scored.case.image,
            photo=scored.case.photo,
            scores={
                row.model: {
                    name: score.reason if score.value is None else score.value
                    for name, score in row.scores.items()
                }
                for row in scored.rows
            },
            codes=codes,
            tiled=list(scored.case.tiled),
            notes=list(scored.case.notes),
        )

    @property
    def rows(self) -> list[ImageScores]:
        """The scores, by model."""
        return [
            ImageScores(
                model,
                self.image,
                self.photo,
                {
                    name: Score(None, value) if isinstance(value, str) else Score(value)
                    for name, value in scores.items()
                },
            )
            for model, scores in self.scores.items()
        ]

    def counts(self, model: str, codebook: int) -> NDArray[np.int64]:
        """How often each code occurs in a model's image."""
        counts = np.zeros(codebook, np.int64)
        for code, count in self.codes[model]:
            counts[code] = count
        return counts

    def failed(self, missing: Mapping[str, str]) -> bool:
        """Whether a score is missing whose metric is not missing altogether."""
        return any(
            isinstance(value, str) and name not in missing
            for scores in self.scores.values()
            for name, value in scores.items()
        )


def remove_unfinished(folder: Path) -> None:
    """Removes the files of an evaluation, and the folder if it then is empty."""
    shutil.rmtree(folder / IMAGES, ignore_errors=True)
    for name in (SCORED, REQUEST):
        (folder / name).unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        folder.rmdir()


def _holds_files(folder: Path) -> bool:
    """Whether a folder has entries, but for those that a killed write left."""
    return folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir())


class Unfinished:
    """The scores so far, on disk."""

    def __init__(self, folder: Path, request: Mapping[str, Any], overwrite: bool) -> None:
        """Continues the evaluation in `folder`, or begins one.

        Raises UserError where it holds another evaluation, unless `overwrite`.
        """
        self.folder = folder
        text = json.dumps(request, indent=1) + "\n"
        self.scored = self._read() if self._requested() == text else {}
        """By image."""
        if self._requested() not in (None, text):
            if not overwrite:
                raise UserError(
                    f"{folder}: holds an unfinished evaluation of other models, images, metrics or "
                    "versions; expected the same, or --overwrite to begin anew"
                )
            remove_unfinished(folder)
        elif self._requested() is None and _holds_files(folder):
            raise UserError(f"{folder}: holds other files, expected an unfinished evaluation")
        write_atomic(folder / REQUEST, text)
        # Drops a last line that a kill cut short.
        lines = [entry.model_dump_json() + "\n" for entry in self.scored.values()]
        write_atomic(folder / SCORED, "".join(lines))

    def add(self, scored: ScoredImage) -> None:
        """Appends the scores of an image to the file, where they outlive this process."""
        path = self.folder / SCORED
        with naming(path), path.open("a", encoding="utf-8") as file:
            file.write(scored.model_dump_json() + "\n")

    def _requested(self) -> str | None:
        try:
            return (self.folder / REQUEST).read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{self.folder / REQUEST}: cannot be read ({error})") from None

    def _read(self) -> dict[str, ScoredImage]:
        path = self.folder / SCORED
        try:
            lines = path.read_bytes().splitlines()
        except FileNotFoundError:
            return {}
        found = {}
        for line in lines:
            try:
                entry = parse_document(line, ScoredImage, str(path))
            except UserError:  # cut short: the image is scored again
                continue
            found[entry.image] = entry
        return found
