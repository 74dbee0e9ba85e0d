"""`index.parquet` beside a set: one row for each sample, and access to single samples by it.

A row follows from the bytes of its shard alone. The worker that writes a shard leaves its rows in
`rows/SET/NAME.parquet`, beside the record of the ledger. So a shard that is taken over keeps them.
"""

import json
from collections.abc import Collection, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import accumulate
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from pipeline.shards.codec import decode_codes
from pipeline.shards.manifest import Manifest, ShardRow
from pipeline.shards.tar import (
    Sample,
    decoded_member,
    read_sample,
    read_shard,
    stored_size,
    write_shard,
)
from pipeline.storage.location import Location, StorageError, opened, written
from tvqrap.runtime.errors import UserError, first_line

INDEX = "index.parquet"

_GROUP_ROWS = 65536
"""Rows of a group of the index, at least; a group ends with a shard."""
_READING_THREADS = 8
_AT_ONCE = 32
"""Shards whose rows are in memory at once."""

_NUMBER = pa.float64()
_DEGRADATION = pa.struct(
    [
        ("preset", pa.string()),
        ("steps", pa.string()),
        *[
            (f"{name}{order}", kind)
            for order in (1, 2)
            for name, kind in (
                ("blur", pa.string()),
                ("sigma", _NUMBER),
                ("scale", _NUMBER),
                ("noise", pa.string()),
                ("level", _NUMBER),
                ("jpeg", pa.int32()),
            )
        ],
        ("sinc", _NUMBER),
    ]
)
_SAMPLE = [
    ("key", pa.string()),
    ("photo", pa.string()),
    ("crop", pa.int32()),
    *[(name, _NUMBER) for name in ("left", "top", "right", "bottom")],
    ("flip", pa.bool_()),
    ("degradations", pa.list_(_DEGRADATION)),
    ("code_entropy", _NUMBER),
    ("different_codes", pa.int32()),
    ("offset", pa.int64()),
    ("size", pa.int64()),
]
_PART = pa.schema(_SAMPLE)
_SCHEMA = pa.schema([*_SAMPLE, ("shard", pa.string())])
_WHERE = ("key", "shard", "offset", "size")


def write_indexed(path: Location, samples: Iterable[Sample]) -> ShardRow:
    """`write_shard`, which also leaves the shard's rows of the index for `write_index`."""
    rows = ShardIndex(path)
    row = write_shard(path, rows.watched(samples))
    save_table(part_path(path), rows.part().replace_schema_metadata({"sha256": row.sha256}))
    return row


def part_path(shard: Location) -> Location:
    """File of the rows of a shard `SET/NAME`: `rows/SET/NAME.parquet`, beside the set."""
    return shard.parent.parent / "rows" / shard.parent.name / f"{shard.name}.parquet"


def write_index(folder: Location, manifest: Manifest) -> None:
    """Writes the index of the set in `folder`, whose manifest need not be there yet.

    Shards whose rows their writer left are not read; others are. Equal sets give equal bytes.
    """
    parts = _parts(manifest.home(folder), manifest, left=True)
    with (
        written(folder / INDEX) as file,
        closing(parts),
        pq.ParquetWriter(file, _SCHEMA, compression="zstd") as writer,
    ):
        waiting: list[Any] = []
        for part in parts:
            waiting.append(part)
            if sum(map(len, waiting)) >= _GROUP_ROWS:
                writer.write_table(pa.concat_tables(waiting))
                waiting = []
        if waiting:
            writer.write_table(pa.concat_tables(waiting))


def save_table(path: Location, table: Any) -> None:
    """Writes an Arrow table as Parquet, whole or not at all."""
    with written(path) as file:
        pq.write_table(table, file, compression="zstd", write_page_checksum=True)


def checked_index(folder: Location, manifest: Manifest) -> tuple[Any, list[str]]:
    """The whole index of the set in `folder`, and its problems, one line each; none if sound.

    The index is None where it is missing or cannot be used.
    """
    path = folder / INDEX
    try:
        table = _table(path, manifest, _SCHEMA.names)
    except FileNotFoundError:
        # Schema 2 had no index.
        return None, [f"{path}: missing"] if manifest.schema > 2 else []
    except UserError as error:
        return None, [str(error)]
    names = np.array([row.name for row in manifest.shards], object)
    names = np.repeat(names, [row.samples for row in manifest.shards])
    if not table["shard"].equals(pa.chunked_array([pa.array(names, pa.string())])):
        return None, [f"{path}: its rows are not of the shards that the manifest lists"]
    return table, []


@dataclass(frozen=True, eq=False)
class SampleIndex:
    """The samples of a set by number, in the set's order, or by key; each is read on its own."""

    path: Location
    home: Location
    """Folder of the shards."""
    rows: tuple[ShardRow, ...]
    table: Any
    """Arrow table of key, shard, offset and size."""

    @classmethod
    def open(cls, folder: Location) -> "SampleIndex":
        """Reads the index of the set in `folder`; where there is none, all shards in its place.

        Raises `UserError` for a damaged index, and for one of other samples than the manifest's.
        """
        manifest = Manifest.load(folder)
        home, path = manifest.home(folder), folder / INDEX
        try:
            table = _table(path, manifest, _WHERE)
        except FileNotFoundError:
            parts = [part.select(_WHERE) for part in _parts(home, manifest, left=False)]
            table = pa.concat_tables([_SCHEMA.empty_table().select(_WHERE), *parts])
        return cls(path, home, manifest.shards, table)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, number: int) -> Sample:
        """A sample, its members still encoded."""
        place = range(len(self))[number]
        key, shard, offset, size = (self.table[name][place].as_py() for name in _WHERE)
        known = self._bytes.get(shard, 0)
        if None in (key, offset, size) or not 0 <= offset < offset + size <= known:
            raise UserError(f"{self.path}: row {place} names no part of a shard of the set")
        return read_sample(self.home / shard, key, offset, size)

    def find(self, keys: Collection[str]) -> dict[str, Sample]:
        """The samples of these keys. Raises `UserError` that names the keys without a sample."""
        places = np.flatnonzero(pc.is_in(self.table["key"], value_set=pa.array(keys, pa.string())))
        found = {self.table["key"][int(place)].as_py(): int(place) for place in places}
        if missing := sorted(set(keys) - found.keys()):
            raise UserError(f"{self.path.parent}: found no sample {', '.join(missing)}")
        return {key: self[place] for key, place in found.items()}

    def keys_of(self, shard: int) -> tuple[int, list[str]]:
        """Number of the first sample of a shard, and the keys of all its samples, in order."""
        start = self._starts[shard]
        return start, self.table["key"].slice(start, self.rows[shard].samples).to_pylist()

    @cached_property
    def _starts(self) -> list[int]:
        return list(accumulate((row.samples for row in self.rows), initial=0))

    @cached_property
    def _bytes(self) -> dict[str, int]:
        return {row.name: row.bytes for row in self.rows}


class ShardIndex:
    """The rows of one shard, collected from its samples."""

    def __init__(self, shard: Location) -> None:
        self._shard = shard
        self._rows: list[dict[str, Any]] = []
        self._offset = 0

    def watched(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The samples; adds the row of each."""
        for sample in samples:
            size = stored_size(sample)
            place = {"key": sample.key, "offset": self._offset, "size": size}
            self._rows.append(place | _described(sample) | self._codes(sample))
            self._offset += size
            yield sample

    def part(self) -> Any:
        """The rows as the shard alone gives them: an Arrow table."""
        return pa.Table.from_pylist(self._rows, schema=_PART)

    def table(self, manifest: Manifest) -> Any:
        """The rows as the index of the set has them."""
        return _completed(self.part(), manifest, self._shard.name)

    def _codes(self, sample: Sample) -> dict[str, Any]:
        if "codes.npy" not in sample.members:
            return {}
        codes = decoded_member(self._shard, sample, "codes.npy", decode_codes)
        _, counts = np.unique(codes, return_counts=True)
        share = counts / max(1, codes.size)
        entropy = round(abs(float((share * np.log(share)).sum())), 6)
        return {"code_entropy": entropy, "different_codes": len(share)}


def _parts(home: Location, manifest: Manifest, *, left: bool) -> Generator[Any, None, None]:
    """The rows of each shard in order; `left`: those that its writer left, where they are sound."""
    read = partial(_part, home, manifest, left)
    with ThreadPoolExecutor(_READING_THREADS) as pool:
        for start in range(0, len(manifest.shards), _AT_ONCE):
            yield from pool.map(read, manifest.shards[start : start + _AT_ONCE])


def _part(home: Location, manifest: Manifest, left: bool, row: ShardRow) -> Any:
    shard = home / row.name
    if left and (part := _left(part_path(shard), row)) is not None:
        return _completed(part, manifest, row.name)
    rows = ShardIndex(shard)
    for _ in rows.watched(read_shard(shard)):
        pass
    return rows.table(manifest)


def _completed(part: Any, manifest: Manifest, shard: str) -> Any:
    """A shard's rows with what the shard does not hold: its name, and that of an only preset."""
    table = part.replace_schema_metadata()
    preset = manifest.params.get("settings", {}).get("degradation")
    if isinstance(preset, str) and len(table):
        place = _PART.get_field_index("degradations")
        lists = table["degradations"].combine_chunks()
        columns = lists.values.flatten()
        columns[0] = pc.fill_null(columns[0], preset)
        structs = pa.StructArray.from_arrays(columns, fields=list(_DEGRADATION))
        filled = pa.ListArray.from_arrays(lists.offsets, structs, mask=lists.is_null())
        table = table.set_column(place, _PART.field(place), filled)
    return table.append_column("shard", pa.array([shard] * len(table), pa.string()))


def _left(path: Location, row: ShardRow) -> Any:
    """The rows that a shard's writer left; None where they are missing or of another shard."""
    try:
        with opened(path) as file:
            table = pq.read_table(file, page_checksum_verification=True)
    except StorageError:
        raise
    except (OSError, ValueError, pa.ArrowException):
        return None
    expected = _PART.with_metadata({"sha256": row.sha256})
    return table if table.schema.equals(expected, check_metadata=True) else None


def _table(path: Location, manifest: Manifest, columns: Sequence[str]) -> Any:
    """Columns of an index. Raises FileNotFoundError, and `UserError` where it is damaged."""
    expected = pa.schema([_SCHEMA.field(name) for name in columns])
    try:
        with opened(path) as file, pq.ParquetFile(file) as index:
            if (rows := index.metadata.num_rows) != manifest.samples:
                raise UserError(
                    f"{path}: {rows} rows, expected {manifest.samples}, one for each sample of "
                    "the manifest"
                )
            table = index.read(list(columns))
    except (FileNotFoundError, StorageError, UserError):
        raise
    except (OSError, ValueError, pa.ArrowException) as error:
        raise UserError(f"{path}: not an index of a set ({first_line(error)})") from None
    if not table.schema.equals(expected):
        raise UserError(f"{path}: not an index of a set, expected the columns {', '.join(columns)}")
    return table


def _described(sample: Sample) -> dict[str, Any]:
    """Columns from a sample's record; values of another type than a record's become null."""
    try:
        record = json.loads(sample.members.get("json", b"{}"))
    except (ValueError, RecursionError):
        record = None
    record = _mapping(record)
    box = record.get("box")
    box = box if isinstance(box, list) and len(box) == 4 else [None] * 4
    flip = record.get("flip")
    steps = record.get("degradations")
    presets = record.get("presets")
    presets = presets if isinstance(presets, list) else []
    return {
        "photo": _text(record.get("photo")),
        "crop": _whole(record.get("crop")),
        **dict(zip(("left", "top", "right", "bottom"), map(_number, box), strict=True)),
        "flip": flip if isinstance(flip, bool) else None,
        "degradations": [
            {"preset": _text(presets[n]) if n < len(presets) else None, **_drawn(each)}
            for n, each in enumerate(steps)
        ]
        if isinstance(steps, list)
        else None,
    }


def _drawn(steps: Any) -> dict[str, Any]:
    """Columns of one degradation: kinds and strengths of the steps of both rounds."""
    steps = [_mapping(step) for step in steps] if isinstance(steps, list) else []
    found: dict[str, Any] = {"steps": " ".join(_text(step.get("step")) or "?" for step in steps)}
    seen = {"resize": 0, "noise": 0, "jpeg": 0}
    for step in steps:
        kind = step.get("step")
        if kind == "blur":
            order = seen["resize"] + 1  # each round has a blur before its resize, or none
            sigma = step.get("sigma")
            values = [_number(value) for value in sigma] if isinstance(sigma, list) else []
            found[f"blur{order}"] = _text(step.get("kind"))
            found[f"sigma{order}"] = max((v for v in values if v is not None), default=None)
        elif kind == "lr":
            found["sinc"] = _number(_mapping(step.get("sinc")).get("cutoff"))
        elif kind in seen:
            order = seen[kind] = seen[kind] + 1
            if kind == "resize":
                found[f"scale{order}"] = _number(step.get("scale"))
            elif kind == "jpeg":
                found[f"jpeg{order}"] = _whole(step.get("quality"))
            else:
                found[f"noise{order}"] = _text(step.get("kind"))
                found[f"level{order}"] = _number(step.get("sigma", step.get("scale")))
    return {name: value for name, value in found.items() if name in _DRAWN}


_DRAWN = frozenset(field.name for field in _DEGRADATION)


def _mapping(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _text(value: Any) -> str | None:
    try:
        return value if isinstance(value, str) and value.encode() else None
    except UnicodeEncodeError:
        return None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and abs(value) < 2**53 else None


def _whole(value: Any) -> int | None:
    return value if isinstance(value, int) and abs(value) < 2**31 else None
