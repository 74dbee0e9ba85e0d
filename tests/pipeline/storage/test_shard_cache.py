"""The cache of shards: each fetched once, checked, within its size, shared by processes."""

import errno
import hashlib
import os
import threading
import time
import uuid
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.storage import shard_cache
from pipeline.storage.location import Url
from pipeline.storage.shard_cache import UNREAD_SECONDS, ShardCache
from tests.pipeline.loading.test_loader import write_set
from tvqrap.runtime.errors import UserError


@pytest.fixture
def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the shards that are fetched from a store, in order."""
    names: list[str] = []
    read = Url.read_bytes

    def watched(url: Url) -> bytes:
        if type(url) is Url and url.name.endswith(".tar"):
            names.append(url.name)
            time.sleep(0.05)
        return read(url)

    monkeypatch.setattr(Url, "read_bytes", watched)
    return names


def put(content: bytes) -> tuple[Url, str]:
    """(a file of a store, its SHA-256)."""
    url = Url(f"memory://{uuid.uuid4().hex}/000000.tar")
    url.write_bytes(content)
    return url, hashlib.sha256(content).hexdigest()


def stored(tmp_path: Path) -> Url:
    """A set of 40 samples in ten shards in a store."""
    folder = write_set(tmp_path / "set", counts=(4,) * 10)
    store = Url(f"memory://{uuid.uuid4().hex}")
    for path in folder.iterdir():
        (store / path.name).write_bytes(path.read_bytes())
    return store


def keys(dataset: ShardedDataset) -> list[tuple[str, ...]]:
    """Keys of three epochs."""
    loader = Loader(dataset, MemberSelection(lr=True), seed=0, batch_size=4)
    with closing(loader.batches(0)) as batches:
        return [batch.keys for batch in islice(batches, 30)]


def test_epochs_and_later_trainings_fetch_nothing_again(tmp_path: Path, fetched: list[str]) -> None:
    store = stored(tmp_path)
    expected = keys(ShardedDataset.open(store))
    assert len(fetched) >= 30
    fetched.clear()
    for _ in range(2):
        cache = ShardCache(tmp_path / "cache", 10**9)
        assert keys(ShardedDataset.open(store, cache=cache)) == expected
    assert sorted(fetched) == [f"{number:06d}.tar" for number in range(10)]


def test_of_several_readers_at_once_one_fetches(tmp_path: Path, fetched: list[str]) -> None:
    """Each with a cache of its own, as processes have."""
    url, sha256 = put(b"shard" * 1000)
    caches = [ShardCache(tmp_path, 10**9) for _ in range(6)]
    found: list[bytes] = []
    threads = [
        threading.Thread(target=lambda cache=cache: found.append(cache.read(url, sha256)))
        for cache in caches
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [b"shard" * 1000] * 6
    assert len(fetched) == 1


def test_other_content_is_refused_and_not_kept(tmp_path: Path) -> None:
    url, sha256 = put(b"shard")
    url.write_bytes(b"other")
    with pytest.raises(UserError, match=r"000000\.tar: found SHA-256 \w{12}, its manifest says"):
        ShardCache(tmp_path, 10**9).read(url, sha256)
    assert not list(tmp_path.glob("*.tar"))


def test_a_damaged_file_is_fetched_again(tmp_path: Path, fetched: list[str]) -> None:
    url, sha256 = put(b"shard")
    ShardCache(tmp_path, 10**9).read(url, sha256)
    (tmp_path / f"{sha256}.tar").write_bytes(b"shart")
    assert ShardCache(tmp_path, 10**9).read(url, sha256) == b"shard"
    assert (tmp_path / f"{sha256}.tar").read_bytes() == b"shard"
    assert len(fetched) == 2


def test_a_full_cache_keeps_what_is_read_and_drops_what_is_not(tmp_path: Path) -> None:
    cache = ShardCache(tmp_path, 250)
    shards = [put(bytes([number]) * 100) for number in range(5)]
    for url, sha256 in shards[:3]:
        assert len(cache.read(url, sha256)) == 100
    assert kept(tmp_path) == {sha256 for _, sha256 in shards[:2]}, "the third has no room"
    old = time.time() - 2 * UNREAD_SECONDS
    os.utime(tmp_path / f"{shards[0][1]}.tar", (old, old))
    cache.read(*shards[3])
    assert kept(tmp_path) == {shards[1][1], shards[3][1]}
    os.utime(tmp_path / f"{shards[1][1]}.tar", (old, old))
    cache.read(*shards[1])  # it is read again
    cache.read(*shards[4])
    assert kept(tmp_path) == {shards[1][1], shards[3][1]}


def kept(folder: Path) -> set[str]:
    return {path.stem for path in folder.glob("*.tar")}


def test_a_shard_above_the_limit_and_a_full_disk_only_cost_the_keeping(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    url, sha256 = put(b"shard")
    assert ShardCache(tmp_path, 4).read(url, sha256) == b"shard"
    assert not kept(tmp_path)

    def full(path: Path) -> None:
        raise OSError("no space left")

    monkeypatch.setattr(shard_cache, "atomic_path", full)
    assert ShardCache(tmp_path, 100).read(url, sha256) == b"shard"
    assert "cannot be kept: no space left" in caplog.text


@pytest.mark.parametrize("name", ["fetch", "keep"])
def test_where_no_lock_can_be_written_shards_are_fetched(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full disk takes no file for a lock either."""
    url, sha256 = put(b"shard")
    lock = shard_cache.file_lock

    def full(path: Path, *given: Any, **options: Any) -> Any:
        if path.name.startswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return lock(path, *given, **options)

    monkeypatch.setattr(shard_cache, "file_lock", full)
    assert ShardCache(tmp_path, 100).read(url, sha256) == b"shard"
    assert "cannot be kept: [Errno 28] No space left on device" in caplog.text
    assert not kept(tmp_path)
