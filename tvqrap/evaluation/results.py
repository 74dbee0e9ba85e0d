"""The scores of a finished evaluation: summary, files and missing scores."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tvqrap.evaluation.cases import ImageScores
from tvqrap.evaluation.image_store import ImageStore
from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.evaluation.statistics.codebook import use_of_counts
from tvqrap.evaluation.summary import SCORES, Summary, protocol, summarise, write_scores
from tvqrap.evaluation.unfinished import ScoredImage
from tvqrap.runtime.errors import UserError


class Results:
    """The scores of all images of a set."""

    def __init__(
        self,
        scored: Iterable[ScoredImage],
        scorer: Scorer,
        confidence: float,
        store: ImageStore,
        *,
        codebook: int | None = None,
        notes: Sequence[str] = (),
    ) -> None:
        """`store` holds the images; `codebook` is needed where images have codes.

        Raises UserError where there is no image.
        """
        self.images = sorted(scored, key=lambda entry: entry.number)
        if not self.images:
            raise UserError("no images to score")
        self.scorer = scorer
        self.confidence = confidence
        self.store = store
        self.codebook = codebook
        self.notes = [*notes, *(note for entry in self.images for note in entry.notes)]
        self.rows: list[ImageScores] = [row for entry in self.images for row in entry.rows]
        self.tiled = Counter(model for entry in self.images for model in entry.tiled)
        """By model: number of images that it upscaled in tiles."""

    def summary(self) -> Summary:
        """Means, intervals, numbers of the whole set and failures."""
        totals: dict[str, dict[str, Score]] = {row.model: {} for row in self.rows}
        for model in dict.fromkeys(model for entry in self.images for model in entry.codes):
            assert self.codebook is not None
            counts = [e.counts(model, self.codebook) for e in self.images if model in e.codes]
            use = use_of_counts(np.sum(counts, axis=0))
            totals[model]["code_usage"] = Score(use.usage)
            totals[model]["code_perplexity"] = Score(use.perplexity)
        if set(self.scorer.names) - set(self.scorer.of_images):
            for model in totals:
                totals[model].update(self._of_set(model))
        return summarise(self.rows, totals, self.confidence, self.scorer.missing)

    def _of_set(self, model: str) -> dict[str, Score]:
        names = [name for name in self.scorer.names if name not in self.scorer.of_images]
        made, hr = self.store.of_model(model), self.store.hr
        for folder, of in ((hr, "HR"), (made, model)):
            # The number over a part of the set is not comparable to that of the whole set.
            found = self.store.count(folder)
            if found < len(self.images):
                reason = f"{found} of {len(self.images)} images of {of}"
                return {name: Score(None, reason) for name in names}
        return self.scorer.score_set(made, hr)

    def protocol(self, *, data: Mapping[str, Any], models: Mapping[str, Any]) -> dict[str, Any]:
        """All that the scores depend on.

        `data` and `models` describe the scored images and models by fingerprints.
        """
        return protocol(self.scorer.protocol(), self.confidence, data=data, models=models)

    def write(
        self,
        folder: Path,
        summary: Summary,
        about: Mapping[str, Any],
    ) -> None:
        """Writes per_image.csv, scores.json and, last, metrics.json.

        `about` is the protocol.
        """
        write_scores(folder, summary, self.rows, about, self.notes)


def check_complete(summary: Summary, folder: Path) -> None:
    """Raises UserError where a score is missing; the message counts them and names the first."""
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
