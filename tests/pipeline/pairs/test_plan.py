"""The plan in columns: the order of the ranks, groups, and what one photograph more changes."""

from collections import Counter

import numpy as np
import pytest

from pipeline.config import PairsSettings, SetSettings
from pipeline.pairs.plan import MIXED_PHOTOS, PlannedSet, plan_set
from pipeline.rng import random_order, random_rank
from pipeline.shards.manifest import shard_name
from pipeline.sources.photos import Photo, photo_key
from pipeline.sources.scanned import ScannedPhoto, ScannedPhotos
from tests.support.pairs import PAIRS
from tvqrap.runtime.errors import UserError

SEED, SHARD_SIZE = 3, 20


def photos(count: int) -> ScannedPhotos:
    names = [f"p{number}.png" for number in range(count)]
    return ScannedPhotos.of(
        ScannedPhoto(Photo(photo_key(name), name), 90, 64, f"{number:064x}", number)
        for number, name in enumerate(names)
    )


def settings(**changes: object) -> SetSettings:
    train = {**PAIRS["sets"]["train"], "size": 32, **changes}
    return PairsSettings.model_validate({**PAIRS, "sets": {"train": train}}).sets["train"]


def plan(count: int, chosen: SetSettings) -> PlannedSet:
    of = photos(count)
    return plan_set("train", SEED, chosen, of, np.arange(count), SHARD_SIZE, "what decides all")


def test_more_shards_than_names_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.pairs.plan.MAX_SHARDS", 4)
    assert len(list(plan(16, settings(count=80)))) == 4
    with pytest.raises(UserError, match="shard_size: found 20, which makes 5 shards of the set"):
        plan(16, settings(count=81))


def keys(planned: PlannedSet) -> list[list[str]]:
    return [[sample.key for sample in planned[name].samples] for name in planned]


def test_ranks_in_columns_sort_as_each_alone() -> None:
    names = [f"photo'{number}\"" for number in range(500)]
    for identity in ((7, "set", "photo"), ("alone",)):
        order = np.lexsort(random_order(*identity, names=names))
        expected = sorted(names, key=lambda name: random_rank(*identity, name))
        assert [names[number] for number in order] == expected


@pytest.mark.parametrize(("count", "flips"), [(40, "random"), (MIXED_PHOTOS, "both")])
def test_a_small_set_is_one_group_in_the_order_of_the_ranks(count: int, flips: str) -> None:
    chosen = settings(count=5 * count + 3, flips=flips)
    by_rank = sorted(
        (entry.photo.key for entry in photos(count)),
        key=lambda key: random_rank(SEED, "train", "photo", key),
    )
    samples = [
        f"{key}_{index:05d}{mirror}"
        for place, key in enumerate(by_rank)
        for index in range(5 + (place < 3))
        for mirror in (("", "m") if flips == "both" else ("",))
    ]
    samples.sort(key=lambda key: random_rank(SEED, "train", "mix", key))
    expected = [samples[at : at + SHARD_SIZE] for at in range(0, len(samples), SHARD_SIZE)]
    planned = plan(count, chosen)
    assert keys(planned) == expected
    assert [planned.size(name) for name in planned] == [len(shard) for shard in expected]
    assert len(planned.photographs) == count


@pytest.mark.parametrize("crops", [1, 3])
def test_every_sample_is_in_one_shard_of_one_group(crops: int) -> None:
    count = 1200
    planned = plan(count, settings(count=crops * count))
    found = Counter(key for shard in keys(planned) for key in shard)
    wanted = {f"{e.photo.key}_{i:05d}" for e in photos(count) for i in range(crops)}
    assert found == Counter(wanted)
    assert list(planned) == [shard_name(number) for number in range(len(planned))]
    sizes = [planned.size(name) for name in planned]
    assert max(sizes) == SHARD_SIZE
    assert sum(size < SHARD_SIZE for size in sizes) <= count // MIXED_PHOTOS


def test_a_photograph_more_changes_the_shards_of_few_groups() -> None:
    before = plan(3000, settings(count=3000))
    digests = {before.plan(name) for name in before}
    for count in (3000, 3001):
        after = plan(3001, settings(count=count))
        made = sum(after.plan(name) not in digests for name in after)
        assert 0 < made < len(after) / 4


def test_what_decides_a_shard_is_in_its_digest() -> None:
    chosen = settings(count=90)
    (first, *_), base = plan(40, chosen), plan(40, chosen)
    other = photos(40)
    sha256 = other.sha256.copy()
    sha256[:] = np.frombuffer(bytes(32), "V32")
    changed = ScannedPhotos(
        *(other.keys, other.names, other.widths, other.heights),
        *(sha256, other.hashes, other.locators),
    )
    everyone = np.arange(40)
    digests = {
        base.plan(first),
        plan_set("train", SEED, chosen, other, everyone, SHARD_SIZE, "other").plan(first),
        plan_set("train", SEED, chosen, changed, everyone, SHARD_SIZE, base.decisive).plan(first),
        plan(40, settings(count=90, flips="both")).plan(first),
    }
    assert len(digests) == 4
    assert base[first].plan == base.plan(first)
