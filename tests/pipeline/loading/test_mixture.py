"""Mixtures of sets: exact proportions, whole epochs, resumed at any step, for any workers."""

from collections import Counter
from contextlib import closing
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.loading.mixture import Mixture, repeating_pattern
from pipeline.shards.codec import encode_png
from pipeline.shards.manifest import Manifest, shard_name
from pipeline.shards.tar import Sample, write_shard
from tvqrap.training.batch import WHOLE_BATCH, Microbatch

SIZES = {"faces": (3, 4), "text": (5,) * 20, "train": (7, 9, 2)}
WEIGHTS = {"train": 3, "faces": 1, "text": 2}
BATCH = 6
PIXEL = encode_png(np.zeros((4, 4, 3), np.uint8))


def open_sets(root: Path) -> dict[str, ShardedDataset]:
    """Sets of samples `SET_NUMBER`; `text` is read in blocks, the others are kept whole."""
    for name, counts in SIZES.items():
        numbers = iter(range(sum(counts)))
        rows = []
        for shard, count in enumerate(counts):
            samples = (
                Sample(f"{name}_{next(numbers):05d}", {"lr0.png": PIXEL}) for _ in range(count)
            )
            rows.append(write_shard(root / name / shard_name(shard), samples))
        manifest = Manifest("pairs", name, {"settings": {"variants": 1}}, tuple(rows))
        manifest.save(root / name)
    return {name: ShardedDataset.open(root / name) for name in SIZES}


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ShardedDataset]:
    return open_sets(tmp_path_factory.mktemp("mixture"))


def keys(
    mixture: Mixture, step: int, count: int, part: Microbatch = WHOLE_BATCH, seed: int = 3
) -> list[tuple[str, ...]]:
    """Keys of the batches from a step on."""
    loader = Loader(mixture, MemberSelection(lr=True), seed=seed, batch_size=BATCH, part=part)
    with closing(loader.batches(step)) as batches:
        return [batch.keys for batch in islice(batches, count)]


@given(st.lists(st.integers(1, 60), min_size=1, max_size=6))
def test_each_beginning_has_the_share_of_each_set_to_within_a_sample(weights: list[int]) -> None:
    pattern = repeating_pattern(weights)
    share = np.array(weights) / sum(weights)
    twice = np.tile(pattern, 2)
    counts = np.cumsum(twice[:, None] == np.arange(len(weights)), axis=0)
    ideal = np.arange(1, len(twice) + 1)[:, None] * share
    assert np.abs(counts - ideal).max() < 1
    assert np.array_equal(counts[-1] * sum(weights), len(twice) * np.array(weights))


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 100), st.integers(1, 16), st.integers(0, 3))
def test_the_samples_before_a_step_are_those_of_its_batches(
    sets: dict[str, ShardedDataset], step: int, size: int, seed: int
) -> None:
    mixture = Mixture.of(sets, WEIGHTS)
    counted = Counter(chain.from_iterable(mixture.batch(seed, each, size) for each in range(step)))
    assert mixture.before(step * size) == tuple(counted[number] for number in range(len(sets)))


def test_batches_have_the_proportions_and_each_set_its_own_epochs(
    sets: dict[str, ShardedDataset],
) -> None:
    """400 steps are some epochs of each set; each of them has every sample once."""
    found = keys(Mixture.of(sets, WEIGHTS), 0, 400)
    seen: dict[str, list[str]] = {name: [] for name in SIZES}
    for step, batch in enumerate(found, 1):
        for key in batch:
            seen[key.split("_")[0]].append(key)
        for name, weight in WEIGHTS.items():
            assert abs(len(seen[name]) - step * BATCH * weight / 6) < 1
    for name, counts in SIZES.items():
        length = sum(counts)
        epochs = [
            tuple(seen[name][start : start + length])
            for start in range(0, len(seen[name]) - length + 1, length)
        ]
        assert len(epochs) > 5 and len(set(epochs)) == len(epochs), "orders differ"
        assert all(len(set(epoch)) == length for epoch in epochs), name


def test_no_set_has_places_of_its_own_in_the_batch(sets: dict[str, ShardedDataset]) -> None:
    """Losses on a share of each batch, from its start or its end, meet all sets."""
    at_place = [
        Counter(key.split("_")[0] for key in place)
        for place in zip(*keys(Mixture.of(sets, WEIGHTS), 0, 200), strict=True)
    ]
    assert len(at_place) == BATCH
    for place in at_place:
        assert all(abs(place[name] / 200 - weight / 6) < 0.15 for name, weight in WEIGHTS.items())


@pytest.mark.parametrize("step", [1, 7, 33, 150])
def test_the_stream_is_the_same_from_any_step(sets: dict[str, ShardedDataset], step: int) -> None:
    mixture = Mixture.of(sets, WEIGHTS)
    assert keys(mixture, step, 40) == keys(mixture, 0, step + 40)[step:]


@pytest.mark.parametrize("workers", [2, 3, 6])
def test_workers_share_the_batches_of_one(sets: dict[str, ShardedDataset], workers: int) -> None:
    mixture = Mixture.of(sets, WEIGHTS)
    whole = keys(mixture, 5, 60)
    for rank in range(workers):
        own = keys(mixture, 5, 60, Microbatch(rank, workers))
        assert own == [batch[rank::workers] for batch in whole]


def test_the_order_of_the_names_changes_nothing_and_the_seed_does(
    sets: dict[str, ShardedDataset],
) -> None:
    first = keys(Mixture.of(sets, WEIGHTS), 0, 20)
    turned = dict(reversed(sets.items()))
    assert keys(Mixture.of(turned, dict(reversed(WEIGHTS.items()))), 0, 20) == first
    assert keys(Mixture.of(sets, WEIGHTS), 0, 20, seed=4) != first


def test_one_set_in_a_mixture_is_that_set(sets: dict[str, ShardedDataset]) -> None:
    alone = Mixture.of({"text": sets["text"]}, {"text": 5})
    loader = Loader(sets["text"], MemberSelection(lr=True), seed=3, batch_size=BATCH)
    with closing(loader.batches(4)) as batches:
        assert [batch.keys for batch in islice(batches, 40)] == keys(alone, 4, 40)


def test_equal_sets_have_orders_of_their_own(tmp_path: Path) -> None:
    """Sets of crops of the same photographs would else show them side by side."""
    twins = {name: open_sets(tmp_path / name)["text"] for name in ("a", "b")}
    loader = Loader(
        Mixture.of(twins, {"a": 1, "b": 1}), MemberSelection(lr=True), seed=0, batch_size=100
    )
    with closing(loader.batches(0)) as batches:
        counted = Counter(next(batches).keys)
    assert max(counted.values()) == 2 and len(counted) > 55
