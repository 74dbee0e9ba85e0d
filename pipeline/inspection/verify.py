"""Checks a set of shards against its manifest."""

import hashlib

from pipeline.shards.codec import digest_member
from pipeline.shards.manifest import Manifest, ShardRow
from pipeline.shards.tar import read_shard
from pipeline.storage.location import (
    Location,
    file_sha256,
    file_sizes,
)
from tvqrap.runtime.errors import UserError


def verify_shards(folder: Location, *, hashes: bool) -> list[str]:
    """Problems of a set of shards against the manifest in `folder`, one line each; none if sound.

    Checks that each shard is there with its size and that no other shard is; with `hashes` also
    every file's SHA-256, sample count and decoded content. UserError where there is no manifest.
    """
    manifest = Manifest.load(folder)
    home = manifest.home(folder)
    sizes = file_sizes(home)
    problems = []
    for row in manifest.shards:
        path = home / row.name
        if row.name not in sizes:
            problems.append(f"{path}: missing")
        elif sizes[row.name] != row.bytes:
            problems.append(f"{path}: {sizes[row.name]} bytes, expected {row.bytes}")
        elif hashes:
            problems += _verify_content(path, row)
    listed = {row.name for row in manifest.shards}
    problems += [
        f"{home / name}: not in the manifest"
        for name in sizes
        if name.endswith(".tar") and name not in listed
    ]
    return problems


def _verify_content(path: Location, row: ShardRow) -> list[str]:
    content, samples = hashlib.sha256(), 0
    try:
        sha256 = file_sha256(path)
        for sample in read_shard(path):
            samples += 1
            for suffix, payload in sorted(sample.members.items()):
                digest_member(content, f"{sample.key}.{suffix}", payload)
    except (UserError, ValueError) as error:
        return [str(error) if isinstance(error, UserError) else f"{path}: {error}"]
    found = {"SHA-256": sha256, "samples": samples, "content digest": content.hexdigest()}
    expected = {"SHA-256": row.sha256, "samples": row.samples, "content digest": row.content}
    return [
        f"{path}: {what} {found[what]}, expected {expected[what]}"
        for what in found
        if found[what] != expected[what]
    ]
