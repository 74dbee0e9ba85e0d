"""Licences of photographs, from a table that the user gives."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from tvqrap.runtime.errors import UserError, first_line

COLUMNS = ("licence", "source", "author")

_NAMES = ("photo", "key")
"""Columns that say which photograph a row is of."""


def read_licences(path: Path, names: Sequence[str], keys: Sequence[str]) -> Any:
    """Licence, source and author of the photographs with these names and keys, in their order.

    The file is CSV with a header, or Parquet: `licence` (or `license`), and `source` and `author`
    if they are known, for each `photo` (its name in the samples' records) or `key`. The result is
    an Arrow table of text with the columns photo, licence, source, author; null where the file does
    not say. Raises UserError for another file, and where it has a photograph twice.
    """
    table = _table(path)
    given = next((name for name in _NAMES if name in table.column_names), None)
    if given is None or "licence" not in table.column_names:
        raise UserError(
            f"data.licences: {path}: found the columns {', '.join(table.column_names)}, expected "
            "licence, and photo or key"
        )
    table = table.filter(pc.is_valid(table[given]))  # spreadsheets end with empty rows
    known = table[given].combine_chunks()
    if pc.count_distinct(known).as_py() != len(known):
        twice = next(
            each["values"] for each in pc.value_counts(known) if each["counts"].as_py() > 1
        )
        raise UserError(f"data.licences: {path}: found {twice} twice, expected one row of each")
    wanted = pa.array(names if given == "photo" else keys, pa.string())
    rows = table.take(pc.index_in(wanted, value_set=known))
    columns = {"photo": pa.array(names, pa.string())}
    for name in COLUMNS:
        there = name in rows.column_names
        columns[name] = rows[name] if there else pa.nulls(len(rows), pa.string())
    return pa.table(columns)


def _table(path: Path) -> Any:
    """The columns of a file that are read, as text."""
    try:
        if path.suffix.lower() == ".parquet":
            table = pq.read_table(path)
        else:
            names = (*_NAMES, *COLUMNS, "license")
            options = pyarrow.csv.ConvertOptions(
                column_types=dict.fromkeys(names, pa.string()),
                strings_can_be_null=True,
                null_values=[""],
            )
            table = pyarrow.csv.read_csv(path, convert_options=options)
        table = table.rename_columns(
            ["licence" if name == "license" else name for name in table.column_names]
        )
        for name in (*_NAMES, *COLUMNS):
            if table.column_names.count(name) > 1:
                raise ValueError(f"found the column {name} twice")
        chosen = [name for name in (*_NAMES, *COLUMNS) if name in table.column_names]
        text = pa.schema([(name, pa.string()) for name in chosen])
        return table.select(chosen).cast(text) if chosen else table
    except FileNotFoundError:
        raise UserError(f"data.licences: {path}: not found") from None
    except (OSError, ValueError, pa.ArrowException) as error:
        reason = first_line(error)
        raise UserError(f"data.licences: {path}: not a table of licences ({reason})") from None
