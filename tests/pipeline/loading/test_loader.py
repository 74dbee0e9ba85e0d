"""The order of samples: complete in every epoch, the same from any position, mixed."""

import itertools
from collections import Counter
from contextlib import closing
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.loading.order import epoch_order, variant_of
from pipeline.shards.codec import encode_array, encode_png
from pipeline.shards.manifest import Manifest, shard_name
from pipeline.shards.tar import Sample, write_shard
from tvqrap.runtime.errors import UserError
from tvqrap.training.batch import Microbatch

COUNTS = (5, 5, 5, 2)
VARIANTS = 3
CODEBOOK = 64


def write_set(folder: Path, kind: str = "pairs", counts: tuple[int, ...] = COUNTS) -> Path:
    """A set whose pixels tell sample and variant."""
    rows = []
    for shard, count in enumerate(counts):
        samples = []
        for position in range(count):
            number = 10 * shard + position
            members = {
                f"lr{variant}.png": encode_png(
                    np.full((4, 4, 3), [number, variant, 0], dtype=np.uint8)
                )
                for variant in range(VARIANTS)
            }
            if kind == "pairs":
                members["hr.png"] = encode_png(np.full((16, 16, 3), number, dtype=np.uint8))
            else:
                members["codes.npy"] = encode_array(np.full((4, 4), number, dtype=np.uint16))
                members["structure.npy"] = encode_array(np.full((2, 1, 1), number, np.float16))
            samples.append(Sample(f"p_{number:05d}", members))
        folder.mkdir(parents=True, exist_ok=True)
        rows.append(write_shard(folder / shard_name(shard), samples))
    Manifest(
        kind=kind,  # type: ignore[arg-type]
        set="train",
        params={"settings": {"variants": VARIANTS}},
        shards=tuple(rows),
        extra={"architecture": {"codebook": CODEBOOK}} if kind == "tokens" else {},
    ).save(folder)
    return folder


@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=9),
    st.integers(0, 5),
    st.integers(0, 5),
    st.integers(1, 4),
)
def test_an_epoch_has_every_sample_once_and_reads_shards_in_blocks(
    counts: list[int], seed: int, epoch: int, block: int
) -> None:
    blocks = list(epoch_order(counts, seed, epoch, block))
    seen = Counter(chain.from_iterable(blocks))
    assert seen == Counter((s, p) for s, count in enumerate(counts) for p in range(count))
    shards = [{shard for shard, _ in each} for each in blocks]
    assert all(len(each) <= block for each in shards)
    assert sum(len(each) for each in shards) == len(counts), "no shard is read twice"
    assert blocks == list(epoch_order(counts, seed, epoch, block))


def test_epochs_and_seeds_have_their_own_orders() -> None:
    orders = [
        list(chain.from_iterable(epoch_order(COUNTS, seed, epoch)))
        for seed in range(3)
        for epoch in range(3)
    ]
    assert len({tuple(order) for order in orders}) == 9


def test_every_variant_is_shown_in_turn() -> None:
    shown = [variant_of(1, epoch, 2, 3, VARIANTS) for epoch in range(2 * VARIANTS)]
    assert sorted(shown[:VARIANTS]) == list(range(VARIANTS))
    assert shown[:VARIANTS] == shown[VARIANTS:]


def test_the_stream_is_the_same_from_any_step(tmp_path: Path) -> None:
    source = ShardedDataset.open(write_set(tmp_path / "pairs"))
    assert source.samples == 17

    def stream(step: int, count: int) -> list[tuple[tuple[str, ...], list[int]]]:
        loader = Loader(source, MemberSelection(hr=True, lr=True), seed=3, batch_size=4)
        taken = list(islice(loader.batches(step), count))
        for each in taken:
            assert each.hr is not None and each.lr is not None
            assert each.hr.dtype == torch.uint8 and each.hr.shape == (4, 16, 16, 3)
            assert torch.equal(each.hr[:, 0, 0, 0], each.lr[:, 0, 0, 0]), "not of one pair"
        return [(each.keys, each.lr[:, 0, 0, 1].tolist()) for each in taken if each.lr is not None]

    whole = stream(0, 17)
    for step in (1, 4, 5, 9, 16):
        assert stream(step, 17 - step) == whole[step:]
    keys = list(chain.from_iterable(keys for keys, _ in whole))
    for epoch in range(4):  # 4 x 17 samples are 17 batches of 4
        assert len(set(keys[17 * epoch : 17 * epoch + 17])) == 17


@pytest.mark.parametrize("counts", [COUNTS, (9,) * 20, (1, 7) * 9])
@pytest.mark.parametrize("part", [Microbatch(), Microbatch(1, 2)])
def test_batches_follow_the_planned_order(
    tmp_path: Path, counts: tuple[int, ...], part: Microbatch
) -> None:
    """Sets that are kept whole and sets that are read in blocks, over the ends of epochs."""
    source = ShardedDataset.open(write_set(tmp_path, counts=counts))
    epochs = (block for epoch in itertools.count() for block in epoch_order(counts, 3, epoch))
    planned = chain.from_iterable(epochs)
    expected = list(islice(planned, 6 * 200))
    loader = Loader(source, MemberSelection(lr=True), seed=3, batch_size=6, part=part)
    for step in (0, 3, 31, 60):
        with closing(loader.batches(step)) as batches:
            found = list(islice(batches, 40))
        for number, batch in enumerate(found, step):
            own = expected[6 * number : 6 * number + 6][part.index :: part.of]
            assert batch.keys == tuple(f"p_{10 * shard + at:05d}" for shard, at in own)


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_share_the_batches_of_one(tmp_path: Path, workers: int) -> None:
    """The same batches whatever the number, from any step: nothing lost, nothing doubled."""
    source, wanted = ShardedDataset.open(write_set(tmp_path / "pairs")), MemberSelection(lr=True)

    def stream(step: int, part: Microbatch) -> list[tuple[str, ...]]:
        loader = Loader(source, wanted, seed=3, batch_size=6, part=part)
        with closing(loader.batches(step)) as batches:
            return [each.keys for each in islice(batches, 6)]

    whole = stream(2, Microbatch())
    parts = [stream(2, Microbatch(rank, workers)) for rank in range(workers)]
    assert {len(part) for part in parts} == {6}, "as many steps for each"
    for step, keys in enumerate(whole):
        for rank in range(workers):
            assert parts[rank][step] == keys[rank::workers]


def test_a_batch_that_workers_cannot_share_equally_is_refused(tmp_path: Path) -> None:
    source = ShardedDataset.open(write_set(tmp_path))
    with pytest.raises(ValueError, match="a batch of 4 samples, expected a multiple of 3"):
        Loader(source, MemberSelection(lr=True), seed=0, batch_size=4, part=Microbatch(0, 3))


def test_each_shard_is_read_once_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also by a worker that has a part of the samples, and where a batch spans two blocks."""
    source, read = ShardedDataset.open(write_set(tmp_path, counts=(9,) * 20)), []
    reading = ShardedDataset.read
    monkeypatch.setattr(
        ShardedDataset,
        "read",
        lambda self, shard, **options: read.append(shard) or reading(self, shard, **options),
    )
    loader = Loader(source, MemberSelection(lr=True), seed=0, batch_size=10, part=Microbatch(1, 2))
    with closing(loader.batches(0)) as batches:
        for _ in range(18):  # an epoch of 180
            next(batches)
    # The thread ahead may have begun the next epoch.
    assert Counter(read[:20]) == Counter(range(20))


def test_pairs_and_tokens_are_joined_by_key(tmp_path: Path) -> None:
    folders = write_set(tmp_path / "pairs"), write_set(tmp_path / "tokens", "tokens")
    loader = Loader(
        ShardedDataset.open(*folders),
        MemberSelection(hr=True, lr=True, tokens=True),
        seed=0,
        batch_size=3,
    )
    batch = next(loader.batches(0))
    assert batch.hr is not None and batch.codes is not None and batch.structure is not None
    assert batch.codes.dtype == torch.int64
    assert torch.equal(batch.hr[:, 0, 0, 0].long(), batch.codes[:, 0, 0])
    assert torch.equal(batch.structure[:, 0, 0, 0].long(), batch.codes[:, 0, 0])


def test_validation_samples_come_in_stored_order(tmp_path: Path) -> None:
    loader = Loader(
        ShardedDataset.open(write_set(tmp_path)), MemberSelection(lr=True), seed=9, batch_size=4
    )
    keys = [key for batch in loader.all(6) for key in batch.keys]
    assert keys == ["p_00000", "p_00001", "p_00002", "p_00003", "p_00004", "p_00010"]


def test_sets_that_do_not_belong_together_are_refused(tmp_path: Path) -> None:
    pairs = write_set(tmp_path / "pairs")
    tokens = write_set(tmp_path / "tokens", "tokens", (5, 5))
    with pytest.raises(UserError, match=r"tokens: 10 samples in 2 shards.*17 in 4"):
        ShardedDataset.open(pairs, tokens)


def test_a_shard_that_lost_samples_is_refused(tmp_path: Path) -> None:
    folder = write_set(tmp_path)
    row = write_shard(folder / shard_name(0), [])
    manifest = Manifest.load(folder)
    rows = (replace(row, samples=5), *manifest.shards[1:])
    replace(manifest, shards=rows).save(folder)
    loader = Loader(ShardedDataset.open(folder), MemberSelection(hr=True), seed=0, batch_size=17)
    with pytest.raises(UserError, match=r"000000\.tar: 0 samples, its manifest says 5"):
        next(loader.batches(0))


@pytest.mark.parametrize("kind", ["pairs", "tokens"])
def test_a_shard_whose_bytes_changed_is_refused_at_its_first_read(
    tmp_path: Path, kind: str
) -> None:
    folders = {name: write_set(tmp_path / name, name) for name in ("pairs", "tokens")}
    shard = folders[kind] / shard_name(1)
    content = bytearray(shard.read_bytes())
    place = content.index(b"NUMPY" if kind == "tokens" else b"IDAT") + 20
    content[place] ^= 1
    shard.write_bytes(content)
    dataset = ShardedDataset.open(*folders.values())
    selection = MemberSelection(hr=True, lr=True, tokens=True)
    loader = Loader(dataset, selection, seed=0, batch_size=17)
    said = rf"{kind}/000001\.tar: found SHA-256 \w{{12}}, its manifest says"
    with pytest.raises(UserError, match=said), closing(loader.batches(0)) as batches:
        next(batches)
    with pytest.raises(UserError, match=said):
        loader.all()
    with pytest.raises(UserError, match=said):
        dataset.read(1)


@pytest.mark.parametrize(
    "codes",
    [
        np.full((4, 4), 65535, np.uint16),
        np.full((4, 4), -1, np.int64),
        np.zeros((4, 4), np.float32),
        np.zeros(16, np.uint16),
    ],
)
def test_codes_outside_of_the_codebook_are_refused(tmp_path: Path, codes: np.ndarray) -> None:
    sample = Sample("p_00000", {"codes.npy": encode_array(codes)})
    row = write_shard(tmp_path / shard_name(0), [sample])
    Manifest(
        kind="tokens",
        set="train",
        params={"settings": {"variants": VARIANTS}},
        shards=(row,),
        extra={"architecture": {"codebook": 16}},
    ).save(tmp_path)
    loader = Loader(
        ShardedDataset.open(tmp_path), MemberSelection(tokens=True), seed=0, batch_size=1
    )
    with pytest.raises(
        UserError, match=r"000000\.tar: sample p_00000: member codes.npy: found .*expected"
    ):
        next(loader.batches(0))
    with pytest.raises(UserError, match=r"architecture\.codebook"):
        replace(Manifest.load(tmp_path), extra={}).save(tmp_path)
        ShardedDataset.open(tmp_path)


def test_a_missing_member_is_named(tmp_path: Path) -> None:
    folder = write_set(tmp_path, "tokens")
    with pytest.raises(UserError, match=r"p_000\d\d: member hr\.png is missing"):
        next(
            Loader(
                ShardedDataset.open(folder), MemberSelection(hr=True), seed=0, batch_size=2
            ).batches(0)
        )
