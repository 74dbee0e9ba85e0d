"""Shards: tar files of samples in the WebDataset layout, and the manifest that vouches for them.

A sample is a key and its members; member `hr.png` of sample `fig_00003` is stored as
`fig_00003.hr.png`. Equal samples give equal bytes: members are sorted, times and owners are
constants. A shard is written under a temporary name and renamed, so that a file with a shard's name
is a whole shard; the manifest is written last.
"""

import hashlib
import io
import json
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

from tvqrap.errors import UserError
from tvqrap.files import whole_file

SCHEMA = 1
MANIFEST = "manifest.json"

Kind = Literal["pairs", "tokens"]

_MEMBER = re.compile(
    r"(?P<key>[A-Za-z0-9_-]{1,80})\.(?P<suffix>hr\.png|lr\d{1,3}\.png|codes\.npy|structure\.npy|json)"
)
_MAX_MEMBER_BYTES = 256 * 2**20
_MAX_IMAGE_PIXELS = 4096 * 4096
_RECORD = tarfile.RECORDSIZE


@dataclass(frozen=True)
class Sample:
    """One sample: its key and its encoded members by suffix (`hr.png`, `lr0.png`, `json`, ...)."""

    key: str
    members: dict[str, bytes]


@dataclass(frozen=True)
class Lost:
    """Something that could not be used, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class ShardRow:
    """What the manifest says of one shard."""

    name: str
    """File name, `000000.tar`."""
    samples: int
    bytes: int
    sha256: str
    """Of the file."""
    content: str
    """SHA-256 over keys and decoded members (pixels, arrays, JSON values): equal on machines whose
    libraries compress differently."""


@dataclass(frozen=True)
class Manifest:
    """What a folder of shards holds. Nothing in it differs between equal runs."""

    kind: Kind
    set: str
    params: dict[str, Any]
    """The params that made the shards."""
    shards: tuple[ShardRow, ...]
    lost: tuple[Lost, ...] = ()
    extra: dict[str, Any] = field(default_factory=dict)
    schema: int = SCHEMA

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(row.samples for row in self.shards)

    @property
    def root(self) -> str:
        """One SHA-256 over the names and hashes of all shards, in order."""
        lines = (f"{row.name} {row.sha256}\n" for row in self.shards)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    def save(self, folder: Path) -> None:
        """Write `manifest.json` into the folder, whole or not at all."""
        content = asdict(self) | {"root": self.root, "samples": self.samples}
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        with whole_file(folder / MANIFEST) as temporary, temporary.open("wb") as file:
            file.write(text.encode())
            _sync(file)

    @classmethod
    def load(cls, folder: Path) -> "Manifest":
        """Read `manifest.json`. UserError where it is missing, damaged or of another schema."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            schema, root, samples = (content.pop(key) for key in ("schema", "root", "samples"))
        except FileNotFoundError:
            raise UserError(
                f"{path}: not found, expected the manifest of a finished set of shards"
            ) from None
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{path}: not a manifest of shards ({error!r})") from None
        if schema != SCHEMA:
            raise UserError(f"{path}: found schema {schema!r}, expected {SCHEMA}")
        try:
            manifest = cls(
                **content
                | {
                    "shards": tuple(ShardRow(**row) for row in content["shards"]),
                    "lost": tuple(Lost(**row) for row in content["lost"]),
                }
            )
            if (manifest.root, manifest.samples) != (root, samples):
                raise ValueError("its root and rows disagree")
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"{path}: not a manifest of shards ({error})") from None
        for row in manifest.shards:
            if not re.fullmatch(r"\d{6}\.tar", row.name):
                raise UserError(f"{path}: found shard name {row.name!r}, expected 000000.tar, ...")
        return manifest


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"{index:06d}.tar"


def write_shard(path: Path, samples: Iterable[Sample]) -> ShardRow:
    """Write samples as one shard, whole or not at all, and return its manifest row.

    Raises ValueError for a key or member that no reader would accept, and for a repeated key.
    """
    content = hashlib.sha256()
    keys: set[str] = set()
    with whole_file(path) as temporary:
        with temporary.open("wb") as file:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.USTAR_FORMAT) as tar:
                for sample in samples:
                    if sample.key in keys:
                        raise ValueError(f"key {sample.key!r} is used twice in {path.name}")
                    keys.add(sample.key)
                    for suffix, payload in sorted(sample.members.items()):
                        name = f"{sample.key}.{suffix}"
                        if not _MEMBER.fullmatch(name):
                            raise ValueError(f"{name!r} is not a member name of a shard")
                        _digest_member(content, name, payload)
                        member = tarfile.TarInfo(name)
                        member.size = len(payload)
                        member.mode = 0o444
                        tar.addfile(member, io.BytesIO(payload))
            _sync(file)
        with temporary.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
        size = temporary.stat().st_size
    return ShardRow(path.name, len(keys), size, sha256, content.hexdigest())


def read_shard(path: Path) -> Iterator[Sample]:
    """Samples of a shard, in order, members still encoded.

    Raises UserError naming the file for anything but a whole, well-formed shard: a cut file (also
    where the cut falls between two members), other kinds of tar entries, names or suffixes that
    are not on the list, members over 256 MiB, a repeated key.
    """
    try:
        with path.open("rb") as file, tarfile.open(fileobj=file, mode="r:") as tar:
            seen: set[str] = set()
            key, members = "", dict[str, bytes]()
            end = 0
            for member in tar:
                matched = _MEMBER.fullmatch(member.name)
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
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected a shard") from None
    except (OSError, tarfile.TarError, EOFError, ValueError) as error:
        raise UserError(f"{path}: not a readable shard ({error})") from None


def verify_shards(folder: Path, *, hashes: bool) -> list[str]:
    """Problems of a folder of shards against its manifest, one line each; empty when it is sound.

    Checks that each shard is there with its size and that no other shard is; with `hashes` also
    every file's SHA-256, sample count and decoded content. UserError where there is no manifest.
    """
    manifest = Manifest.load(folder)
    problems = []
    for row in manifest.shards:
        path = folder / row.name
        if not path.is_file():
            problems.append(f"{path}: missing")
        elif (size := path.stat().st_size) != row.bytes:
            problems.append(f"{path}: {size} bytes, expected {row.bytes}")
        elif hashes:
            problems += _verify_content(path, row)
    listed = {row.name for row in manifest.shards}
    problems += [
        f"{path}: not in the manifest"
        for path in sorted(folder.glob("*.tar"))
        if path.name not in listed
    ]
    return problems


def _verify_content(path: Path, row: ShardRow) -> list[str]:
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    content, samples = hashlib.sha256(), 0
    try:
        for sample in read_shard(path):
            samples += 1
            for suffix, payload in sorted(sample.members.items()):
                _digest_member(content, f"{sample.key}.{suffix}", payload)
    except (UserError, ValueError) as error:
        return [str(error) if isinstance(error, UserError) else f"{path}: {error}"]
    found = {"SHA-256": sha256, "samples": samples, "content digest": content.hexdigest()}
    expected = {"SHA-256": row.sha256, "samples": row.samples, "content digest": row.content}
    return [
        f"{path}: {what} {found[what]}, expected {expected[what]}"
        for what in found
        if found[what] != expected[what]
    ]


def encode_png(image: np.ndarray) -> bytes:
    """uint8 (H, W, 3) RGB to PNG at compression level 1."""
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise ValueError(f"found {image.dtype} {image.shape}, expected uint8 (H, W, 3)")
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG", compress_level=1)
    return stream.getvalue()


def decode_png(payload: bytes) -> np.ndarray:
    """PNG to uint8 (H, W, 3) RGB. ValueError for anything but 8-bit RGB up to 4096 x 4096."""
    try:
        with Image.open(io.BytesIO(payload), formats=["PNG"]) as image:
            if image.mode != "RGB" or image.width * image.height > _MAX_IMAGE_PIXELS:
                raise ValueError(f"{image.mode}, {image.width}x{image.height} pixels")
            return np.array(image)
    except Exception as error:  # Pillow raises many kinds for a damaged file
        raise ValueError(f"not a PNG of a shard ({error})") from None


def encode_array(array: np.ndarray) -> bytes:
    """An array to `.npy`."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), allow_pickle=False)
    return stream.getvalue()


def decode_array(payload: bytes) -> np.ndarray:
    """`.npy` to array, without pickled objects. ValueError for anything else."""
    try:
        return np.lib.format.read_array(io.BytesIO(payload), allow_pickle=False)
    except Exception as error:  # malformed headers raise many kinds
        raise ValueError(f"not an array of a shard ({error})") from None


def _digest_member(digest: "hashlib._Hash", name: str, payload: bytes) -> None:
    """Add a member's decoded content; doubles as a check that what is written can be read."""
    if name.endswith(".json"):
        content = json.dumps(json.loads(payload), sort_keys=True).encode()
        header = f"{name} {len(content)}\n"
    else:
        array = decode_png(payload) if name.endswith(".png") else decode_array(payload)
        content = array.tobytes()
        header = f"{name} {array.dtype.str} {array.shape}\n"
    digest.update(header.encode())
    digest.update(content)


def _sync(file: io.BufferedWriter) -> None:
    file.flush()
    os.fsync(file.fileno())
