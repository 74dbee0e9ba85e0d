"""Checks a set of shards against its manifest."""

import hashlib
from collections.abc import Callable
from functools import partial
from typing import Any

from pipeline.executor.run import ExecutorKind, run_tasks
from pipeline.shards.codec import digest_member
from pipeline.shards.index import INDEX, ShardIndex, checked_index
from pipeline.shards.manifest import Manifest, ShardRow
from pipeline.shards.tar import read_shard
from pipeline.storage.location import Location, file_sizes
from tvqrap.runtime.errors import UserError


def verify_shards(
    folder: Location, *, hashes: bool, executor: ExecutorKind = "serial", workers: int = 1
) -> list[str]:
    """Problems of a set of shards against the manifest in `folder`, one line each; none if sound.

    Checks that each shard is there with its size, that there is no other shard, and that the index
    lists the samples of each. With `hashes`, also checks every file's SHA-256, number of samples
    and decoded content, and the rows of the index, on the executor. Raises `UserError` where there
    is no manifest.
    """
    manifest = Manifest.load(folder)
    home = manifest.home(folder)
    sizes = file_sizes(home)
    index, problems = checked_index(folder, manifest)
    start = 0
    whole = []
    for row in manifest.shards:
        path = home / row.name
        if row.name not in sizes:
            problems.append(f"{path}: missing")
        elif sizes[row.name] != row.bytes:
            problems.append(f"{path}: {sizes[row.name]} bytes, expected {row.bytes}")
        elif hashes:
            rows = None if index is None else index.slice(start, row.samples)
            whole.append((path, row, rows))
        start += row.samples
    contents: dict[int, list[str]] = {}
    failures = run_tasks(
        partial(_checker, manifest),
        whole,
        executor=executor,
        workers=workers,
        on_result=contents.__setitem__,
    )
    contents |= {each.index: [f"{whole[each.index][0]}: {each.error}"] for each in failures}
    problems += [line for number in sorted(contents) for line in contents[number]]
    listed = {row.name for row in manifest.shards}
    problems += [
        f"{home / name}: not in the manifest"
        for name in sizes
        if name.endswith(".tar") and name not in listed
    ]
    return problems


def _checker(manifest: Manifest) -> Callable[[tuple[Location, ShardRow, Any]], list[str]]:
    """The function of a worker."""
    return lambda task: _verify_content(*task, manifest)


def _verify_content(path: Location, row: ShardRow, rows: Any, manifest: Manifest) -> list[str]:
    """Problems of one shard, read once: in a store each read is a transfer.

    `rows` are those of the index, None where there is none.
    """
    content, samples, indexed = hashlib.sha256(), 0, ShardIndex(path)
    problems = []
    try:
        for sample in indexed.watched(read_shard(path, row.sha256)):
            samples += 1
            for suffix, payload in sorted(sample.members.items()):
                digest_member(content, f"{sample.key}.{suffix}", payload)
    except (UserError, ValueError, RecursionError) as error:
        problems.append(str(error) if isinstance(error, UserError) else f"{path}: {error}")
        if samples != row.samples:
            return problems  # it ends too early: its digest says nothing more
    found = {"samples": samples, "content digest": content.hexdigest()}
    expected = {"samples": row.samples, "content digest": row.content}
    if rows is not None and not problems and not rows.equals(indexed.table(manifest)):
        problems.append(f"{path}: {INDEX} has other rows for it")
    return problems + [
        f"{path}: {name} {found[name]}, expected {expected[name]}"
        for name in found
        if found[name] != expected[name]
    ]
