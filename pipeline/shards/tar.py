"""Shards: tar files of samples in the WebDataset layout, and the manifest that vouches for them.

A sample is a key and its members; member `hr.png` of sample `fig_00003` is stored as
`fig_00003.hr.png`. Equal samples give equal bytes: members are sorted, times and owners are
constants. A file with a shard's name is a whole shard; the manifest is written last. Sets lie in
folders or in object stores; the manifest that a checkout has of a set stored elsewhere says where.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from pipeline.shards.codec import digest_member
from pipeline.shards.manifest import ShardRow
from pipeline.storage.location import (
    Location,
    file_sha256,
    opened,
    written,
)
from tvqrap.runtime.errors import UserError

MEMBER = re.compile(
    r"(?P<key>[A-Za-z0-9_-]{1,80})\.(?P<suffix>(?:hr|lr\d{1,3}|teacher\d{1,3})\.png|codes\.npy|structure\.npy|json)"
)

_MAX_MEMBER_BYTES = 256 * 2**20

_RECORD = tarfile.RECORDSIZE


@dataclass(frozen=True)
class Sample:
    """One sample: its key and its encoded members by suffix (`hr.png`, `lr0.png`, `json`, ...)."""

    key: str
    members: dict[str, bytes]


def write_shard(path: Location, samples: Iterable[Sample]) -> ShardRow:
    """Write samples as one shard, whole or not at all, and return its manifest row.

    Raises ValueError for a key or member that no reader would accept, and for a repeated key.
    """
    content = hashlib.sha256()
    keys: set[str] = set()
    with written(path) as file:
        hashed = _Hashed(file)
        with tarfile.open(fileobj=hashed, mode="w", format=tarfile.USTAR_FORMAT) as tar:
            for sample in samples:
                if sample.key in keys:
                    raise ValueError(f"key {sample.key!r} is used twice in {path.name}")
                keys.add(sample.key)
                for suffix, payload in sorted(sample.members.items()):
                    name = f"{sample.key}.{suffix}"
                    if not MEMBER.fullmatch(name):
                        raise ValueError(f"{name!r} is not a member name of a shard")
                    digest_member(content, name, payload)
                    member = tarfile.TarInfo(name)
                    member.size = len(payload)
                    member.mode = 0o444
                    tar.addfile(member, io.BytesIO(payload))
        size = file.tell()
    return ShardRow(path.name, len(keys), size, hashed.sha256.hexdigest(), content.hexdigest())


class _Hashed(io.RawIOBase):
    """A file that is written from start to end, with the SHA-256 of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self.sha256 = hashlib.sha256()
        self._file = file

    def writable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._file.tell()

    def write(self, content: Any, /) -> int:
        self.sha256.update(content)
        return self._file.write(content)


def read_shard(path: Location, sha256: str | None = None) -> Iterator[Sample]:
    """Samples of a shard, in order, members still encoded.

    With `sha256` (hex) the file's own is computed meanwhile; where it is another, that is a
    UserError after the last sample.

    Raises UserError naming the file for anything but a whole, well-formed shard: a cut file (also
    where the cut falls between two members), other kinds of tar entries, names or suffixes that
    are not on the list, members over 256 MiB, a repeated key.
    """
    try:
        with (
            opened(path) as file,
            ThreadPoolExecutor(1) as pool,
            tarfile.open(fileobj=file, mode="r:") as tar,
        ):
            found = pool.submit(_sha256_aside, file) if sha256 is not None else None
            seen: set[str] = set()
            key, members = "", dict[str, bytes]()
            end = 0
            for member in tar:
                matched = MEMBER.fullmatch(member.name)
                if matched is None or not member.isreg() or member.issparse():
                    raise UserError(f"{path}: found member {member.name!r}, which no shard holds")
                if member.size > _MAX_MEMBER_BYTES:
                    raise UserError(
                        f"{path}: member {member.name} has {member.size} bytes, "
                        f"expected at most {_MAX_MEMBER_BYTES}"
                    )
                if matched["key"] != key:
                    if key:
                        yield Sample(key, members)
                    key, members = matched["key"], {}
                    if key in seen:
                        raise UserError(f"{path}: key {key} is used twice")
                    seen.add(key)
                if matched["suffix"] in members:
                    raise UserError(f"{path}: member {member.name} is there twice")
                extracted = tar.extractfile(member)
                payload = extracted.read() if extracted else b""
                if len(payload) != member.size:
                    raise UserError(f"{path}: cut short in member {member.name}")
                members[matched["suffix"]] = payload
                end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
            # tarfile takes a file that ends between two members for a whole one: a whole one ends
            # with zero blocks, filled up to a full record.
            file.seek(end)
            rest = file.read(2 * _RECORD)
            if (end + len(rest)) % _RECORD or len(rest) < 2 * tarfile.BLOCKSIZE or any(rest):
                raise UserError(f"{path}: cut short or damaged after {len(seen)} samples")
            if key:
                yield Sample(key, members)
            if found is not None and sha256 is not None and found.result() != sha256:
                raise UserError(
                    f"{path}: found SHA-256 {found.result()[:12]}, its manifest says {sha256[:12]}"
                )
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a shard") from None
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a readable shard ({error})") from None


def _sha256_aside(file: BinaryIO) -> str:
    """SHA-256 (hex) of an open file, whose position stays where it is."""
    if isinstance(file, io.BytesIO):
        return hashlib.sha256(file.getbuffer()).hexdigest()
    return file_sha256(Path(file.name))
