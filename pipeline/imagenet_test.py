"""A test set in two folders, made as ImageNet-Test was: `gt/NAME.png` and `lq/NAME.png`.

The shorter side is reduced to the size of the crop (256) by antialiased bicubic, the centre is cut
out, and LR is made by the test degradation (ResShift, Yue et al. 2023, section 4.1, whose 3000
pictures of ImageNet's validation set became the usual test set).
"""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image

from pipeline.config import DataSettings, DegradationSettings
from pipeline.executor.run import run_tasks
from pipeline.pairs.crops import capacity, cut, plan_crop
from pipeline.pairs.degradation import degrade
from pipeline.rng import random_rank, random_stream
from pipeline.shards.manifest import Skipped
from pipeline.sources.photos import Photo, UnusableError, decode, discover
from tvqrap.images.open import MAX_PIXELS
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError

ABOUT = "test-set.json"
"""Says how a test set was made."""

Progress = Callable[..., AbstractContextManager[Callable[..., None]]]


@dataclass(frozen=True)
class _Recipe:
    folder: Path
    out: Path
    size: int
    degradation: DegradationSettings
    seed: int


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
    """Makes the pairs of a folder's photographs, or of `count` of them; how many, and what is lost.

    Which are drawn, and how each is degraded, follows from `seed` and the photographs' names alone.
    The folders appear when all is made, in place of those of an earlier set. `progress` is
    `tvqrap.runtime.progress.progress` or alike. UserError where there are too few photographs.
    """
    photos, lost = discover(folder)
    if count is not None:
        if len(photos) < count:
            raise UserError(f"{folder}: {len(photos)} photographs, expected at least {count}")
        photos.sort(key=lambda photo: random_rank(seed, "imagenet-test", photo.key))
        photos = sorted(photos[:count], key=lambda photo: photo.name)
    if not photos:
        raise UserError(f"{folder}: found no photograph")
    work = out / ".making"
    shutil.rmtree(work, ignore_errors=True)
    for name in ("gt", "lq"):
        (work / name).mkdir(parents=True)
    records: dict[str, Any] = {}
    try:
        with progress("imagenet-test", total=len(photos), unit="image") as advance:

            def keep(index: int, result: "dict[str, Any] | Skipped") -> None:
                if isinstance(result, Skipped):
                    lost.append(result)
                else:
                    records[photos[index].key] = result
                advance()

            failures = run_tasks(
                partial(_maker, _Recipe(folder, work, size, degradation, seed)),
                photos,
                executor="processes",
                workers=workers,
                on_result=keep,
            )
        lost += [Skipped(photos[failure.index].name, failure.error) for failure in failures]
        if not records:
            raise UserError(f"{folder}: no photograph can be used ({lost[0].reason})")
        about = {
            "recipe": "short side to size by antialiased bicubic, centre crop",
            "size": size,
            "seed": seed,
            "count": count,
            "degradation": degradation.model_dump(mode="json"),
            "lost": [[entry.name, entry.reason] for entry in lost],
            "images": {key: records[key] for key in sorted(records)},
        }
        for name in ("gt", "lq"):
            shutil.rmtree(out / name, ignore_errors=True)
            (work / name).rename(out / name)
        write_atomic(out / ABOUT, json.dumps(about, indent=1, ensure_ascii=False) + "\n")
    finally:
        shutil.rmtree(work, ignore_errors=True)
    return len(records), sorted(lost, key=lambda entry: entry.name)


def _maker(recipe: _Recipe) -> Callable[[Photo], "dict[str, Any] | Skipped"]:
    settings = DataSettings(
        photos=str(recipe.folder),
        min_side=recipe.size,
        max_pixels=MAX_PIXELS,
        max_skipped_fraction=1.0,
    )

    def make(photo: Photo) -> "dict[str, Any] | Skipped":
        try:
            image = decode(recipe.folder, photo, settings)
        except UnusableError as error:
            return Skipped(photo.name, str(error))
        height, width = image.shape[:2]
        assert capacity("centre", width, height, recipe.size) != 0
        identity = (recipe.seed, "imagenet-test", photo.key)
        crop = plan_crop("centre", width, height, recipe.size, False, 0.0, 0, identity)
        hr = cut(image, "centre", recipe.size, crop)
        degraded = degrade(hr, recipe.degradation, random_stream(*identity, "degrade"))
        for name, pixels in (("gt", hr), ("lq", degraded.image)):
            Image.fromarray(pixels).save(recipe.out / name / f"{photo.key}.png")
        return {"photo": photo.name, "degradation": degraded.record}

    return make
