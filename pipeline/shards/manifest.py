"""The manifest of a set of shards: its shards with their hashes, and the params that made them."""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, field
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NotRequired

import pydantic_core
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from typing_extensions import TypedDict

from pipeline.config import SetName
from pipeline.storage.location import (
    Location,
    file_sha256,
    folder_names,
    location,
    opened,
    resolved,
    write_text,
)
from tvqrap.architecture import CODEBOOKS
from tvqrap.runtime.errors import UserError

SCHEMA: Final = 3

_OLDER = 2
"""The schema before, which is read too: it lists each photograph that was skipped."""

MANIFEST = "manifest.json"

COMPANIONS = (
    "README.md",
    "index.parquet",
    "licences.parquet",
    "near_duplicates.parquet",
    "skipped.parquet",
)
"""Files beside a manifest that describe the set, not all in every set."""

Kind = Literal["pairs", "tokens"]

STRICT = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)
"""Documents are read without conversions, and have no unknown keys."""

_SHARD = re.compile(r"\d{6}\.tar")

Count = Annotated[int, Field(ge=0, lt=2**63)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


@dataclass(frozen=True, config=STRICT)
class Skipped:
    """A photograph or sample that is not in the set, and why."""

    name: str
    reason: str


_COUNTED = 64
"""Different values that a manifest counts one by one, at most."""


def value_counts(values: Iterable[str], others: str) -> dict[str, int]:
    """How often the most frequent values occur; those beyond `_COUNTED` of them as `others`."""
    counts = Counter(values)
    frequent = dict(counts.most_common(_COUNTED))
    if rest := counts.total() - sum(frequent.values()):
        frequent[others] = frequent.get(others, 0) + rest
    return frequent


def reason_counts(skipped: Iterable[Skipped]) -> dict[str, int]:
    """How many are skipped for each reason; N stands for numbers, which tell files apart."""
    reasons = (re.sub(r"\d+", "N", entry.reason) for entry in skipped)
    return value_counts(reasons, "other reasons")


@dataclass(frozen=True, config=STRICT)
class ShardRow:
    """The manifest's entry of one shard."""

    name: str
    """File name, `000000.tar`."""
    samples: Count
    bytes: Count
    sha256: Sha256
    """SHA-256 (hex) of the file."""
    content: Sha256
    """SHA-256 over keys and decoded members (pixels, arrays, JSON values): equal on machines whose
    libraries compress differently."""
    source: Sha256 | None = None
    """For tokens: SHA-256 of the shard of pairs that they were made from."""
    plan: Sha256 | None = None
    """SHA-256 over all that decides the shard's bytes, code and machine aside. The manifest has it
    in words."""


class _Dropped(TypedDict):
    shard: str
    key: str
    reason: str


class _Extra(TypedDict):
    """The keys of `Manifest.extra` that other code reads."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow")  # type: ignore[misc]

    tokenizer: NotRequired[Sha256]
    pairs: NotRequired[Sha256]
    architecture: NotRequired[dict[str, Any]]
    dropped: NotRequired[list[_Dropped]]


class _Params(TypedDict):
    """The keys of `Manifest.params` that other code reads."""

    __pydantic_config__ = ConfigDict(strict=True, extra="allow")  # type: ignore[misc]

    settings: NotRequired[dict[str, Any]]


_EXTRA = TypeAdapter(_Extra)
_PARAMS = TypeAdapter(_Params)


def _finite(value: dict[str, Any]) -> dict[str, Any]:
    json.dumps(value, allow_nan=False)
    return value


def _known_keys(extra: dict[str, Any]) -> dict[str, Any]:
    _EXTRA.validate_python(extra)
    return extra


def _known_params(params: dict[str, Any]) -> dict[str, Any]:
    _PARAMS.validate_python(params)
    return params


def _sound_rows(rows: tuple[ShardRow, ...]) -> tuple[ShardRow, ...]:
    for row in rows:
        if not _SHARD.fullmatch(row.name):
            raise ValueError(f"found shard name {row.name!r}, expected 000000.tar, ...")
    if len({row.name for row in rows}) != len(rows):
        raise ValueError("found a shard twice")
    return rows


Finite = Annotated[dict[str, Any], AfterValidator(_finite)]


@dataclass(frozen=True, config=STRICT)
class Manifest:
    """The description of a set of shards. Equal runs give equal manifests."""

    kind: Kind
    set: SetName
    params: Annotated[Finite, AfterValidator(_known_params)]
    """The params that made the shards."""
    shards: Annotated[tuple[ShardRow, ...], AfterValidator(_sound_rows)]
    skipped: dict[str, Count] = field(default_factory=dict)
    """How many photographs are not in the set, by reason; `skipped.parquet` has their names."""
    extra: Annotated[Finite, AfterValidator(_known_keys)] = field(default_factory=dict)
    location: str | None = None
    """Folder or URL of the shards; None where they lie beside the manifest."""
    schema: Literal[2, 3] = SCHEMA
    """That of the file which was read; all are saved with the newest."""

    @property
    def samples(self) -> int:
        """Samples in all shards."""
        return sum(row.samples for row in self.shards)

    @property
    def root(self) -> str:
        """One SHA-256 over the names and hashes of all shards, in order."""
        lines = (f"{row.name} {row.sha256}\n" for row in self.shards)
        return hashlib.sha256("".join(lines).encode()).hexdigest()

    @property
    def crop_size(self) -> int:
        """Side of the HR crops in pixels. UserError where the params lack it."""
        return self._setting("size")

    @property
    def variants(self) -> int:
        """LR images of each HR crop. UserError where the params lack it."""
        return self._setting("variants")

    @property
    def codebook(self) -> int:
        """For tokens: entries of the codebook. UserError where the manifest does not name it."""
        value = self.extra.get("architecture", {}).get("codebook")
        if type(value) is not int or value not in CODEBOOKS:
            raise UserError(
                f"{MANIFEST} of the set {self.set}: found {value!r} as "
                "extra.architecture.codebook, expected the entries of the tokenizer's codebook"
            )
        return value

    def _setting(self, key: str) -> int:
        value = self.params.get("settings", {}).get(key)
        if type(value) is not int or value < 1:
            raise UserError(
                f"{MANIFEST} of the set {self.set}: found {value!r} as params.settings.{key}, "
                "expected a whole number from 1 on"
            )
        return value

    def home(self, folder: Location) -> Location:
        """Folder of the shards, for a manifest that was read from `folder`.

        Raises UserError where `location` is neither below `folder` nor below a trusted storage: a
        manifest that came from elsewhere could name any URL, read with this user's credentials.
        """
        if self.location is None:
            return folder
        home = location(self.location)
        if not any(_lies_in(home, trusted) for trusted in (folder, *_trusted)):
            raise UserError(
                f"{folder / MANIFEST}: its shards are in {self.location}, which no `storage` of "
                "params.yaml holds, expected the set there to be named itself, or that storage in "
                "params.yaml"
            )
        return home

    def save(self, folder: Location) -> None:
        """Write `manifest.json` into the folder, whole or not at all."""
        content = asdict(self) | {
            "root": self.root,
            "samples": self.samples,
            "schema": SCHEMA,
        }
        if self.location is None:
            del content["location"]
        for row in content["shards"]:
            for key in [key for key, value in row.items() if value is None]:
                del row[key]
        text = json.dumps(content, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
        write_text(folder / MANIFEST, text)

    @classmethod
    def load(cls, folder: Location) -> "Manifest":
        """Read `manifest.json`.

        UserError where it is missing, damaged or of another schema.
        """
        path = folder / MANIFEST
        try:
            with opened(path) as file:
                content = pydantic_core.from_json(file.read(), allow_inf_nan=False)
            root, samples = (content.pop(key) for key in ("root", "samples"))
            schema, _ = content["schema"], content["skipped"]
        except FileNotFoundError:
            raise UserError(
                f"{path}: not found, expected the manifest of a finished set of shards"
            ) from None
        except UserError:  # of a store, or of a path that is no file
            raise
        except (OSError, ValueError, KeyError, AttributeError, TypeError) as error:
            raise UserError(f"{path}: not a manifest of shards ({error!r})") from None
        if schema not in (_OLDER, SCHEMA):
            newer = isinstance(schema, int) and schema > SCHEMA
            advice = "a newer version made the set" if newer else "make the set again"
            raise UserError(f"{path}: found schema {schema!r}, expected {SCHEMA}: {advice}")
        try:
            if schema == _OLDER:
                listed = _SKIPPED.validate_json(pydantic_core.to_json(content["skipped"]))
                content["skipped"] = reason_counts(listed)
            manifest = _MANIFEST.validate_json(pydantic_core.to_json(content))
            if (manifest.root, manifest.samples) != (root, samples):
                raise ValueError("its root and rows disagree")
        except ValueError as error:
            raise UserError(f"{path}: not a manifest of shards ({first_line(error)})") from None
        return manifest


_MANIFEST = TypeAdapter(Manifest)
_SKIPPED = TypeAdapter(list[Skipped])

_trusted: list[Location] = []


def trust_storage(storage: str | None) -> None:
    """Lets manifests that this process reads name shards below a folder or URL of the params."""
    if storage is not None and (place := resolved(location(storage))) not in _trusted:
        _trusted.append(place)


def _lies_in(place: Location, folder: Location) -> bool:
    place, folder = resolved(place), resolved(folder)
    if isinstance(place, Path) or isinstance(folder, Path):
        return isinstance(place, Path) and isinstance(folder, Path) and place.is_relative_to(folder)
    inside = str(place) == str(folder) or str(place).startswith(f"{folder}/")
    return inside and ".." not in str(place).split("/")


def first_line(error: Exception) -> str:
    """One line of an error, of pydantic's with the key."""
    if not isinstance(error, ValidationError):
        return str(error)
    first = error.errors(include_url=False)[0]
    key = ".".join(str(part) for part in first["loc"])
    return f"{key}: {first['msg'].removeprefix('Value error, ')}" if key else str(first["msg"])


def sets_in(folder: Location) -> list[Location]:
    """The folder itself if it holds a manifest, else the folders in it that do, by name."""
    candidates = [folder, *(folder / name for name in folder_names(folder))]
    found = [place for place in candidates if (place / MANIFEST).is_file()]
    return found[:1] if found[:1] == [folder] else found


MAX_SHARDS = 10**6
"""Shards of a set, whose names have six digits."""


def shard_name(index: int) -> str:
    """File name of a shard."""
    return f"{index:06d}.tar"


def is_intact(path: Location, row: ShardRow, sizes: Mapping[str, int]) -> bool:
    """Whether a finished shard still agrees with its row, `sizes` being those of its folder.

    On disk its hash is compared. In a store only its size is: a hash would have to fetch it, and
    files of a store appear whole.
    """
    if sizes.get(row.name) != row.bytes:
        return False
    return not isinstance(path, Path) or file_sha256(path) == row.sha256
