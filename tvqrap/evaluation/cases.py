"""Upscaling and scoring many images on all cores."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Condition

import numpy as np
import torch
from numpy.typing import NDArray

from tvqrap.evaluation.metrics.registry import Score
from tvqrap.evaluation.metrics.scorer import Scorer
from tvqrap.runtime.memory import free_memory

BYTES_PER_PIXEL = 2200
"""What scoring takes of each HR pixel at most, with the default metrics (ST-LPIPS VGG takes the
most of it): measured, about 2 GB per megapixel."""
_SHARE = 0.5
"""Of the free memory that scoring may take; upscaling and finished images have the rest."""
_UNKNOWN = 4_000_000


def pixels_at_once() -> int:
    """Pixels of HR that the memory that is free now has room for. No score depends on it."""
    free = free_memory()
    return _UNKNOWN if free is None else int(_SHARE * free / BYTES_PER_PIXEL)


class PixelBudget:
    """Lets threads in while the pixels that they hold together stay within a number.

    An image that is larger than that is let in alone.
    """

    def __init__(self, pixels: int) -> None:
        self.pixels = pixels
        self._held = 0
        self._changed = Condition()

    @contextmanager
    def hold(self, pixels: int) -> Iterator[None]:
        """Waits until there is room for so many pixels, and keeps it."""
        with self._changed:
            self._changed.wait_for(lambda: not self._held or self._held + pixels <= self.pixels)
            self._held += pixels
        try:
            yield
        finally:
            with self._changed:
                self._held -= pixels
                self._changed.notify_all()


WAITING_BYTES = 1 << 30
"""Of images that were scored and wait for their turn; more are not begun then."""


@dataclass(frozen=True)
class Case:
    """One test image: HR and what each model made of its LR."""

    image: str
    photo: str
    """What the image is a crop of; images of one photo are averaged first."""
    hr: NDArray[np.uint8] | None
    """(H, W, 3); None where there is no reference."""
    lr: NDArray[np.uint8] | None
    """(H / 4, W / 4, 3); None where finished images alone are scored."""
    made: Mapping[str, NDArray[np.uint8] | str]
    """By model: uint8 (H, W, 3), or one line that says why there is no image."""
    known: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """By model: numbers that are known already (code accuracy), by column."""
    codes: Mapping[str, NDArray[np.integer]] = field(default_factory=dict)
    """By model: the codes that its image was decoded from."""
    no_hr: str = ""
    """Why there is no HR, where there ought to be."""
    notes: tuple[str, ...] = ()
    """What was done to the image's files before they could be scored, a line each."""

    @property
    def images(self) -> list[NDArray[np.uint8]]:
        """All that were made or read, HR first."""
        return [p for p in (self.hr, self.lr, *self.made.values()) if isinstance(p, np.ndarray)]


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
    cases: Iterable[Callable[[], Case]], scorer: Scorer, workers: int | None = None
) -> Iterator[Scored]:
    """Makes and scores cases, several at a time, and yields them in their order.

    A case is made and scored on one thread, so that neither depends on `workers` (all cores that
    this process may use, if not given): threads that work on one image each get more done than all
    on one, and the small operations of the metrics gain nothing from more. At most two cases per
    worker, and `WAITING_BYTES` of those that are done, wait in memory; large images are scored by
    fewer workers at once, as `pixels_at_once` finds room.
    """
    workers = workers or len(os.sched_getaffinity(0))
    budget = PixelBudget(pixels_at_once())
    waiting: deque[Future[Scored]] = deque()
    with ThreadPoolExecutor(workers, initializer=torch.set_num_threads, initargs=(1,)) as pool:
        try:
            for make in cases:
                waiting.append(pool.submit(_score, scorer, budget, make))
                while len(waiting) >= 2 * workers or _done_bytes(waiting) > WAITING_BYTES:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def _done_bytes(waiting: Iterable[Future[Scored]]) -> int:
    done = (future for future in waiting if future.done() and future.exception() is None)
    return sum(image.nbytes for future in done for image in future.result().case.images)
