"""Shards: tar files of samples in the WebDataset layout.

A sample is a key and its members; member `hr.png` of sample `fig_00003` is stored as
`fig_00003.hr.png`. Equal samples give equal bytes: members are sorted, times and owners are
constants. A file with a shard's name is a whole shard. Sets lie in folders or in object stores.
"""

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

from pipeline.shards.codec import digest_member
from pipeline.shards.manifest import ShardRow
from pipeline.storage.location import (
    Location,
    file_sha256,
    opened,
    read_range,
    written,
)
from tvqrap.runtime.errors import UserError, first_line

MEMBER = re.compile(
    r"(?P<key>[A-Za-z0-9_-]{1,80})\.(?P<suffix>(?:hr|lr\d{1,3}|teacher\d{1,3})\.png|codes\.npy|structure\.npy|json)"
)

_MAX_MEMBER_BYTES = 256 * 2**20

_RECORD = tarfile.RECORDSIZE

Decoded = TypeVar("Decoded")


@dataclass(frozen=True)
class Sample:
    """One sample: its key and its encoded members by suffix (`hr.png`, `lr0.png`, `json`, ...)."""

    key: str
    members: dict[str, bytes]


def decoded_member(
    shard: Location, sample: Sample, name: str, decode: Callable[[bytes], Decoded]
) -> Decoded:
    """A member of a sample, decoded; `decode` raises ValueError for one that is damaged.

    Raises UserError that names the shard and the sample where the member is missing or damaged.
    """
    try:
        return decode(sample.members[name])
    except KeyError:
        raise UserError(f"{shard}: sample {sample.key}: member {name} is missing") from None
    except ValueError as error:
        raise UserError(f"{shard}: sample {sample.key}: member {name}: {error}") from None


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
    """A file that is written from start to end, and the SHA-256 of its content."""

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

    With `sha256` (hex), the SHA-256 of the file is computed meanwhile; another one is a UserError
    after the last sample.

    Raises UserError that names the file for anything but a whole, well-formed shard. Examples are a
    file cut anywhere, other kinds of tar entries, other names or suffixes, members over 256 MiB and
    a repeated key.
    """
    with (
        _readable(path, "not a readable shard"),
        opened(path) as file,
        ThreadPoolExecutor(1) as pool,
        tarfile.open(fileobj=file, mode="r:") as tar,
    ):
        found = pool.submit(_sha256_aside, file) if sha256 is not None else None
        yield from _samples(path, file, tar)
        if found is not None and sha256 is not None and found.result() != sha256:
            raise UserError(
                f"{path}: found SHA-256 {found.result()[:12]}, its manifest says {sha256[:12]}"
            )


@contextmanager
def _readable(path: Location, problem: str) -> Iterator[None]:
    """Turns whatever a missing, damaged or hostile shard raises into a UserError that names it."""
    try:
        yield
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a shard") from None
    except (UserError, MemoryError):
        raise
    except Exception as error:  # tarfile raises many kinds
        raise UserError(f"{path}: {problem} ({first_line(error)})") from None


def stored_size(sample: Sample) -> int:
    """Bytes of a sample in a shard: header and content of each member, in blocks of 512."""
    block = tarfile.BLOCKSIZE
    return sum(block + -(-len(payload) // block) * block for payload in sample.members.values())


def read_sample(path: Location, key: str, offset: int, size: int) -> Sample:
    """One sample of a shard, from the `size` bytes at `offset` alone.

    Raises UserError that names the file where they are not the members of the sample `key`.
    """
    sample = Sample(key, {})
    with _readable(path, f"sample {key} is not readable"):
        content = read_range(path, offset, size)
        with tarfile.open(fileobj=io.BytesIO(content), mode="r:") as tar:
            for member in tar:
                found, suffix = _key_and_suffix(path, member)
                payload = _payload(path, tar, member)
                if found != key or suffix in sample.members:
                    raise UserError(f"{path}: found member {member.name} in the sample {key}")
                sample.members[suffix] = payload
    if stored_size(sample) != size:
        raise UserError(f"{path}: cut short or damaged in sample {key}")
    return sample


def _payload(path: Location, tar: tarfile.TarFile, member: tarfile.TarInfo) -> bytes:
    """The content of a member. Raises UserError where the file ends before it."""
    extracted = tar.extractfile(member)
    payload = extracted.read() if extracted else b""
    if len(payload) != member.size:
        raise UserError(f"{path}: cut short in member {member.name}")
    return payload


def _samples(path: Location, file: BinaryIO, tar: tarfile.TarFile) -> Iterator[Sample]:
    seen: set[str] = set()
    sample: Sample | None = None
    end = 0
    for member in tar:
        key, suffix = _key_and_suffix(path, member)
        if sample is None or key != sample.key:
            if sample is not None:
                yield sample
            sample = Sample(key, {})
            if key in seen:
                raise UserError(f"{path}: key {key} is used twice")
            seen.add(key)
        if suffix in sample.members:
            raise UserError(f"{path}: member {member.name} is there twice")
        sample.members[suffix] = _payload(path, tar, member)
        end = member.offset_data + -(-member.size // tarfile.BLOCKSIZE) * tarfile.BLOCKSIZE
    # tarfile takes a file that ends between two members for a whole one. A whole one ends with zero
    # blocks that fill up the last record.
    file.seek(end)
    rest = file.read(2 * _RECORD)
    if (end + len(rest)) % _RECORD or len(rest) < 2 * tarfile.BLOCKSIZE or any(rest):
        raise UserError(f"{path}: cut short or damaged after {len(seen)} samples")
    if sample is not None:
        yield sample


def _key_and_suffix(path: Location, member: tarfile.TarInfo) -> tuple[str, str]:
    """The key and suffix of a member. Raises UserError for members that no shard holds."""
    matched = MEMBER.fullmatch(member.name)
    if matched is None or not member.isreg() or member.issparse():
        raise UserError(f"{path}: found member {member.name!r}, which no shard holds")
    if member.size > _MAX_MEMBER_BYTES:
        raise UserError(
            f"{path}: member {member.name} has {member.size} bytes, expected at most "
            f"{_MAX_MEMBER_BYTES}"
        )
    return matched["key"], matched["suffix"]


def _sha256_aside(file: BinaryIO) -> str:
    """SHA-256 (hex) of an open file; its position does not change."""
    if isinstance(file, io.BytesIO):
        return hashlib.sha256(file.getbuffer()).hexdigest()
    return file_sha256(Path(file.name))
