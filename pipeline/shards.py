"""Shards: tar files of samples in the WebDataset layout, and the manifest that vouches for them.

A sample is a key and its members; member `hr.png` of sample `fig_00003` is stored as
`fig_00003.hr.png`. Equal samples give equal bytes: members are sorted, times and owners are
constants. A file with a shard's name is a whole shard; the manifest is written last. Sets lie in
folders or in object stores; the manifest that a checkout has of a set stored elsewhere says where.
"""

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from PIL import Image

from pipeline.storage import (
    Location,
    StorageError,
    file_sizes,
    folder_names,
    location,
    opened,
    write_text,
    written,
)
from tvqrap.errors import UserError

SCHEMA = 1
MANIFEST = "manifest.json"

Kind = Literal["pairs", "tokens"]

_MEMBER = re.compile(
    r"(?P<key>[A-Za-z0-9_-]{1,80})\.(?P<suffix>(?:hr|lr\d{1,3}|teacher\d{1,3})\.png|codes\.npy|structure\.npy|json)"
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
    source: str | None = None
    """Of a shard of tokens: SHA-256 of the shard of pairs that it was made from."""
    plan: str | None = None
    """Of a shard of tokens: SHA-256 over the source's row, the tokenizer's fingerprint and all
    params that can change its bytes; the manifest has them in words."""


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
    location: str | None = None
    """Folder or URL where the shards are; none where they lie beside the manifest."""
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

    def home(self, folder: Location) -> Location:
        """Where the shards are of the manifest that was read from `folder`."""
        return folder if self.location is None else location(self.location)

    def save(self, folder: Location) -> None:
        """Write `manifest.json` into the folder, whole or not at all."""
        content = asdict(self) | {"root": self.root, "samples": self.samples}
        if self.location is None:
            del content["location"]
        for row in content["shards"]:
            for key in [key for key, value in row.items() if value is None]:
                del row[key]
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        write_text(folder / MANIFEST, text)

    @classmethod
    def load(cls, folder: Location) -> "Manifest":
        """Read `manifest.json`. UserError where it is missing, damaged or of another schema."""
        path = folder / MANIFEST
        try:
            content = json.loads(path.read_bytes())
            schema, root, samples = (content.pop(key) for key in ("schema", "root", "samples"))
        except FileNotFoundError:
            raise UserError(
                f"{path}: not found, expected the manifest of a finished set of shards"
            ) from None
        except StorageError:
            raise
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
            if not isinstance(manifest.location, str | None):
                raise ValueError(f"location is {manifest.location!r}, expected a text")
        except (TypeError, KeyError, ValueError) as error:
            raise UserError(f"{path}: not a manifest of shards ({error})") from None
        for row in manifest.shards:
            if not re.fullmatch(r"\d{6}\.tar", row.name):
                raise UserError(f"{path}: found shard name {row.name!r}, expected 000000.tar, ...")
        return manifest


def sets_in(folder: Location) -> list[Location]:
    """The folder itself if it holds a manifest, else the folders in it that do, by name."""
    candidates = [folder, *(folder / name for name in folder_names(folder))]
    found = [place for place in candidates if (place / MANIFEST).is_file()]
    return found[:1] if found[:1] == [folder] else found


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"{index:06d}.tar"


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
                    if not _MEMBER.fullmatch(name):
                        raise ValueError(f"{name!r} is not a member name of a shard")
                    _digest_member(content, name, payload)
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


def is_intact(path: Location, row: ShardRow, sizes: Mapping[str, int]) -> bool:
    """Whether a finished shard is still what its row says, `sizes` being those of its folder.

    By its hash on disk; by its size in a store, which would have to send it, and holds no file but
    whole ones.
    """
    if sizes.get(row.name) != row.bytes:
        return False
    return not isinstance(path, Path) or file_sha256(path) == row.sha256


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


def file_sha256(path: Location) -> str:
    """SHA-256 (hex) of a file. OSError where it cannot be read."""
    with opened(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type]


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
