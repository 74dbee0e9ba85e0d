"""Test sets in two folders, made as ImageNet-Test was: `gt/NAME.png` and `lq/NAME.png`.

Antialiased bicubic reduces the shorter side to the size of the crop (256). The centre is cut out
and degraded with the test degradation (ResShift, Yue et al., 2023, section 4.1). The 3000 images
that they made of ImageNet's validation set became the usual test set.
"""

import json
import re
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.config import DataSettings, DegradationSettings
from pipeline.executor.run import run_tasks
from pipeline.pairs.crops import capacity, cut, plan_crop
from pipeline.pairs.degradation import degrade
from pipeline.rng import random_rank, random_stream
from pipeline.shards.manifest import Skipped
from pipeline.sources.photos import Photo, UnusableError, decode, discover
from pipeline.sources.scan import counted_reasons
from tvqrap.images.reading.open import MAX_PIXELS
from tvqrap.images.save import save_png
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError

ABOUT = "test-set.json"
"""The file that says how a test set was made."""

_PARTS = ("gt", "lq")
"""Folders of HR and LR."""

Progress = Callable[..., AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class _Recipe:
    folder: Path
    out: Path
    size: int
    degradation: DegradationSettings
    seed: int

    @property
    def about(self) -> dict[str, Any]:
        """The recipe for the test set's file."""
        return {
            "recipe": "short side to size by antialiased bicubic, centre crop",
            "size": self.size,
            "seed": self.seed,
            "degradation": self.degradation.model_dump(mode="json"),
        }


def make_test_set(
    folder: Path,
    out: Path,
    *,
    count: int | None,
    size: int,
    degradation: DegradationSettings,
    seed: int,
    workers: int,
    progress: Progress,
) -> tuple[int, list[Skipped]]:
    """Makes the pairs of a folder's photographs, or of `count` of them.

    Returns the number of pairs and the photographs that were skipped. The choice and each
    degradation follow from `seed` and the photographs' names alone. The folders appear when all is
    made, in place of those of an earlier set. `progress` is `tvqrap.runtime.progress.progress` or
    alike. UserError where there are too few photographs.
    """
    listing = discover(folder)
    photos, skipped = _drawn(folder, listing.photos, count, seed), listing.skipped
    names = _output_names(photos)
    work = out / ".making"
    recipe = _Recipe(folder, work, size, degradation, seed)
    shutil.rmtree(work, ignore_errors=True)
    for part in _PARTS:
        (work / part).mkdir(parents=True)
    records: dict[str, Any] = {}
    try:
        with progress("imagenet-test", total=len(photos), unit="image") as advance:

            def keep(index: int, result: "dict[str, Any] | Skipped") -> None:
                if isinstance(result, Skipped):
                    skipped.append(result)
                else:
                    records[names[index]] = result
                advance()

            failures = run_tasks(
                partial(_maker, recipe),
                list(zip(photos, names, strict=True)),
                executor="processes",
                workers=workers,
                on_result=keep,
            )
        skipped += [Skipped(photos[failure.index].name, failure.error) for failure in failures]
        skipped.sort(key=lambda entry: entry.name)
        if not records:
            raise UserError(f"{folder}: no photograph can be used: {counted_reasons(skipped)}")
        about = recipe.about | {
            "count": count,
            "skipped": [[entry.name, entry.reason] for entry in skipped],
            "images": {name: records[name] for name in sorted(records)},
        }
        for part in _PARTS:
            shutil.rmtree(out / part, ignore_errors=True)
            (work / part).rename(out / part)
        write_atomic(out / ABOUT, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(records), skipped


def _drawn(folder: Path, photos: list[Photo], count: int | None, seed: int) -> list[Photo]:
    """All photographs, or `count` of them drawn by `seed`, sorted by name."""
    if count is not None:
        if len(photos) < count:
            raise UserError(f"{folder}: {len(photos)} photographs, expected at least {count}")
        photos = sorted(photos, key=lambda each: random_rank(seed, "imagenet-test", each.key))
        photos = sorted(photos[:count], key=lambda each: each.name)
    if not photos:
        raise UserError(f"{folder}: found no photograph")
    return photos


def _output_names(photos: Sequence[Photo]) -> list[str]:
    """The stem of each photograph's file, or its key where that is not plain or not unique."""
    stems = [Path(photo.name).stem for photo in photos]
    uses = Counter(stem.lower() for stem in stems)
    return [
        stem
        if re.fullmatch(r"[A-Za-z0-9_-]{1,100}", stem) and uses[stem.lower()] == 1
        else photo.key
        for photo, stem in zip(photos, stems, strict=True)
    ]


def _maker(recipe: _Recipe) -> Callable[[tuple[Photo, str]], "dict[str, Any] | Skipped"]:
    settings = DataSettings(
        photos=str(recipe.folder),
        licences=None,
        min_side=recipe.size,
        max_pixels=MAX_PIXELS,
        max_skipped_fraction=1.0,
    )

    def make(task: tuple[Photo, str]) -> "dict[str, Any] | Skipped":
        photo, name = task
        try:
            image = decode(recipe.folder / photo.name, settings)
        except UnusableError as error:
            return Skipped(photo.name, str(error))
        height, width = image.shape[:2]
        assert capacity("centre", width, height, recipe.size) != 0
        identity = (recipe.seed, "imagenet-test", photo.key)
        crop = plan_crop("centre", width, height, recipe.size, False, 0.0, 0, identity)
        hr = cut(image, "centre", recipe.size, crop)
        degraded = degrade(hr, recipe.degradation, random_stream(*identity, "degrade"))
        for part, pixels in zip(_PARTS, (hr, degraded.image), strict=True):
            save_png(recipe.out / part / f"{name}.png", pixels)
        return {"photo": photo.name, "degradation": degraded.record}

    return make
