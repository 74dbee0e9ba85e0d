"""The manifest of a set of shards: its shards with their hashes, and the params that made them."""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from pipeline.storage.location import (
    Location,
    StorageError,
    file_sha256,
    folder_names,
    location,
    write_text,
)
from tvqrap.runtime.errors import UserError

SCHEMA = 1

MANIFEST = "manifest.json"

Kind = Literal["pairs", "tokens"]


@dataclass(frozen=True)
class Skipped:
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
    lost: tuple[Skipped, ...] = ()
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
                    "lost": tuple(Skipped(**row) for row in content["lost"]),
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


def is_intact(path: Location, row: ShardRow, sizes: Mapping[str, int]) -> bool:
    """Whether a finished shard is still what its row says, `sizes` being those of its folder.

    By its hash on disk; by its size in a store, which would have to send it, and holds no file but
    whole ones.
    """
    if sizes.get(row.name) != row.bytes:
        return False
    return not isinstance(path, Path) or file_sha256(path) == row.sha256
