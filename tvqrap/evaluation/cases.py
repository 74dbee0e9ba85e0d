"""Upscaling and scoring many images on all cores."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, as_completed, wait
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

import numpy as np
import torch
from numpy.typing import NDArray

from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.runtime.cores import idle_cores
from tvqrap.runtime.memory import free_memory

BYTES_PER_PIXEL = 2200
"""Peak memory of scoring for each HR pixel with the default metrics (measured): about 2 GB per
megapixel, most of it for ST-LPIPS VGG."""
_SHARE = 0.5
"""The part of the free memory that scoring may take; upscaling and finished images need the
rest."""
_UNKNOWN = 4_000_000
"""HR pixels that are scored at once where the free memory is unknown."""


def pixels_at_once() -> int:
    """HR pixels that can be scored at once in the free memory. No score depends on it."""
    free = free_memory()
    return _UNKNOWN if free is None else int(_SHARE * free / BYTES_PER_PIXEL)


class PixelBudget:
    """Limits the pixels that several threads hold together.

    A larger image waits until no other thread holds any.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Waits until that many pixels fit, and reserves them."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self.pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


@dataclass(frozen=True)
class Case:
    """One test image: its LR, its HR and the image that each model made of LR."""

    image: str
    photo: str
    """The photograph that the image is a crop of; images of one photograph are averaged first."""
    hr: NDArray[np.uint8] | None
    """(H, W, 3); None where there is no reference."""
    lr: NDArray[np.uint8] | None
    """(H / 4, W / 4, 3); None where finished images alone are scored."""
    made: Mapping[str, NDArray[np.uint8] | str]
    """By model: uint8 (H, W, 3), or the reason why there is no image, one line."""
    known: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By model and column: numbers that no metric computes (code accuracy)."""
    codes: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    """By model: the codes that its image was decoded from."""
    no_hr: str = ""
    """The reason why HR is missing, in a set that has HR."""
    tiled: tuple[str, ...] = ()
    """Models that upscaled the image in tiles."""
    notes: tuple[str, ...] = ()
    """Changes that were made to the files' pixels before scoring, a line each."""

    @property
    def images(self) -> list[NDArray[np.uint8]]:
        """All images of the case, HR first."""
        return [p for p in (self.hr, self.lr, *self.made.values()) if isinstance(p, np.ndarray)]


@dataclass(frozen=True)
class PendingCase:
    """A case that is not made yet."""

    image: str
    """Name of the image, unique in its set."""
    make: Callable[[], Case]


@dataclass(frozen=True)
class ImageScores:
    """Every score of one model's image."""

    model: str
    image: str
    photo: str
    scores: Mapping[str, Score]


@dataclass(frozen=True)
class Scored:
    """A case with its scores, one row per model."""

    case: Case
    rows: tuple[ImageScores, ...]


def _score(scorer: Scorer, budget: PixelBudget, make: Callable[[], Case]) -> Scored:
    case = make()
    with budget.hold(max((image.size // 3 for image in case.images), default=0)):
        return _scored(scorer, case)


def _scored(scorer: Scorer, case: Case) -> Scored:
    reference = None if case.hr is None else scorer.reference(case.hr)
    rows = []
    for model, made in case.made.items():
        scores: dict[str, Score] = {}
        if isinstance(made, str):
            scores.update({name: Score(None, made) for name in scorer.of_images})
        else:
            scores.update(scorer.score(made, reference, case.no_hr))
        scores.update({name: Score(value) for name, value in case.known.get(model, {}).items()})
        rows.append(ImageScores(model, case.image, case.photo, scores))
    return Scored(case, tuple(rows))


def score_cases(
    cases: Iterable[PendingCase], scorer: Scorer, workers: int | None = None
) -> Iterator[Scored]:
    """Makes and scores cases in several threads, and yields each as it is done, in any order.

    One thread makes and scores a case, so no score depends on `workers` (by default, one for
    each idle core). At most one case more than workers waits in memory. Large images are
    scored by fewer workers at once, see `pixels_at_once`.
    """
    # The small operations of the metrics gain more from several images than from several threads.
    workers = workers or idle_cores()
    budget = PixelBudget(pixels_at_once())
    waiting: set[Future[Scored]] = set()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for pending in cases:
                waiting.add(pool.submit(_score, scorer, budget, pending.make))
                if len(waiting) > workers:
                    done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                    for future in done:
                        yield future.result()
            for future in as_completed(waiting):
                yield future.result()
        finally:
            for future in waiting:
                future.cancel()
