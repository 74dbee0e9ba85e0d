"""Collecting the scores of a run, and writing all that comes of them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tvqrap.evaluation.cases import ImageScores, Scored
from tvqrap.evaluation.image_store import ImageStore
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.statistics.codebook import code_use
from tvqrap.evaluation.statistics.intervals import Resampling
from tvqrap.evaluation.summary import SCORES, Summary, protocol, summarise, write_scores
from tvqrap.runtime.errors import UserError


class Results:
    """The scores of one run, image after image."""

    def __init__(
        self, scorer: Scorer, resampling: Resampling, spool: ImageStore | None = None
    ) -> None:
        """`spool` keeps the images, for metrics of whole sets and for the page."""
        self.scorer = scorer
        self.resampling = resampling
        self.spool = spool
        self.rows: list[ImageScores] = []
        self.notes: list[str] = []
        self._codes: dict[str, list[NDArray[np.integer]]] = {}

    def add(self, scored: Scored) -> None:
        """Takes in a case and its scores."""
        self.rows += scored.rows
        self.notes += scored.case.notes
        for model, codes in scored.case.codes.items():
            self._codes.setdefault(model, []).append(codes.reshape(-1))
        if self.spool is not None:
            self.spool.add(scored.case)

    def summary(self, codebook: int | None = None) -> Summary:
        """Means, intervals, totals and failures; `codebook` is needed where cases have codes.

        Raises UserError where there is no image at all.
        """
        if not self.rows:
            raise UserError("no images to score")
        totals: dict[str, dict[str, Score]] = {row.model: {} for row in self.rows}
        for model, codes in self._codes.items():
            assert codebook is not None
            use = code_use(np.concatenate(codes), codebook)
            totals[model]["code_usage"] = Score(use.usage)
            totals[model]["code_perplexity"] = Score(use.perplexity)
        if set(self.scorer.names) - set(self.scorer.of_images):
            for model in totals:
                totals[model].update(self._of_set(model))
        return summarise(self.rows, totals, self.resampling, self.scorer.missing)

    def _of_set(self, model: str) -> dict[str, Score]:
        names = [name for name in self.scorer.names if name not in self.scorer.of_images]
        if self.spool is None:
            return {name: Score(None, "the images were not kept") for name in names}
        made, hr = self.spool.of_model(model), self.spool.hr
        images = len(self.spool.names)
        for folder, what in ((hr, "HR"), (made, model)):
            # Over fewer images it would be another number, not a worse one.
            if self.spool.count(folder) < images:
                found = self.spool.count(folder)
                reason = f"{found} of {images} images of {what}"
                return {name: Score(None, reason) for name in names}
        return self.scorer.score_set(made, hr)

    def write(
        self,
        folder: Path,
        summary: Summary,
        *,
        data: Mapping[str, Any],
        models: Mapping[str, Any],
    ) -> dict[str, Any]:
        """Writes metrics.json, scores.json and per_image.csv; the protocol that was written.

        `data` and `models` say what was scored, by fingerprints.
        """
        about = protocol(self.scorer.protocol(), self.resampling, data=data, models=models)
        write_scores(folder, summary, self.rows, about, self.notes)
        return about


def check_losses(summary: Summary, folder: Path) -> None:
    """Raises UserError where a score is missing, with the first of those that are."""
    if not summary.lost:
        return
    if summary.failures:
        first = summary.failures[0]
        example = f"{first.metric} of {first.image or 'the set'} by {first.model}: {first.reason}"
    else:
        metric, reason = next(iter(summary.missing.items()))
        example = f"{metric}: {reason}"
    raise UserError(
        f"{summary.lost} scores are missing (see {folder / SCORES}), the first: {example}"
    )
