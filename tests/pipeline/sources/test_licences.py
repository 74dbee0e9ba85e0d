"""Licences of photographs: which tables are read, and what a set says of them."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from pipeline.config import DataSettings, PairsSettings
from pipeline.pairs.make import make_set
from pipeline.sources.licences import read_licences
from pipeline.sources.photos import photo_key
from pipeline.sources.scan import scan_photos
from tests.support.paths import ROOT
from tests.support.tokens import extract, make_material
from tvqrap.runtime.errors import UserError

NAMES = ["a.png", "b.png", "c.png"]
KEYS = [photo_key(name) for name in NAMES]


def read(path: Path) -> list[tuple[str | None, ...]]:
    table = read_licences(path, NAMES, KEYS)
    assert table.column_names == ["photo", "licence", "source", "author"]
    return [tuple(row.values()) for row in table.to_pylist()]


EXPECTED = [("a.png", "CC0", "here", None), ("b.png", None, None, None), ("c.png", "5", None, "x")]


def test_csv_by_name_and_parquet_by_key(tmp_path: Path) -> None:
    text = "license,photo,more,source,author\n5,c.png,1,,x\nCC0,a.png,2,here,\nCC0,z.png,3,,\n"
    text += ",,,,\n,,,,\n"  # as spreadsheets end
    (tmp_path / "by_name.csv").write_text(text)
    assert read(tmp_path / "by_name.csv") == EXPECTED
    table = pa.table(
        {
            "key": [KEYS[2], KEYS[0]],
            "licence": ["5", "CC0"],
            "source": [None, "here"],
            "author": ["x", None],
        }
    )
    pq.write_table(table, tmp_path / "by_key.parquet")
    assert read(tmp_path / "by_key.parquet") == EXPECTED


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a table of licences"),
        ("a,b\n1\n", "not a table of licences"),
        ("photo,author\na.png,x\n", "found the columns photo, author, expected licence"),
        ("licence\nCC0\n", "expected licence, and photo or key"),
        ("photo,licence\na.png,x\na.png,y\n", "found a.png twice"),
        ("photo,licence,license\na.png,x,y\n", "found the column licence twice"),
    ],
)
def test_another_table_is_one_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "licences.csv"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read(path)
    assert said in str(caught.value) and "\n" not in str(caught.value)
    path.rename(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="not a table of licences"):
        read(tmp_path / "x.parquet")
    with pytest.raises(UserError, match="not found"):
        read(path)


def test_a_set_counts_the_licences_of_its_photographs(
    pairs: PairsSettings, data: DataSettings, tmp_path: Path
) -> None:
    rows = [f"p{number}.png,{'CC0' if number % 2 else 'CC | BY'},site,me" for number in range(7)]
    (tmp_path / "licences.csv").write_text("\n".join(["photo,licence,source,author", *rows]))
    known = data.model_copy(update={"licences": str(tmp_path / "licences.csv")})
    scan = scan_photos(known, executor="serial", workers=1)
    for name in pairs.sets:
        given = (name, pairs, known, scan, tmp_path / "with")
        manifest = make_set(*given, executor="serial", workers=1)
        listed = pq.read_table(tmp_path / "with" / name / "licences.parquet").to_pylist()
        assert len(listed) == manifest.extra["photographs"]
        index = pq.read_table(tmp_path / "with" / name / "index.parquet")
        assert {row["photo"] for row in listed} == set(index["photo"].to_pylist())
        counts = manifest.extra["licences"]
        for licence in ("CC0", "CC | BY", "unknown"):
            found = [row for row in listed if (row["licence"] or "unknown") == licence]
            assert counts.get(licence, 0) == len(found)
        card = (tmp_path / "with" / name / "README.md").read_text()
        for licence, count in counts.items():
            assert f"| {licence} | {count} |".replace("CC |", "CC \\|") in card
        plain = scan_photos(data, executor="serial", workers=1)
        given = (name, pairs, data, plain, tmp_path / "without")
        without = make_set(*given, executor="serial", workers=1)
        assert without.root == manifest.root, "licences change no shard"


def test_tokens_carry_the_licences_of_their_pairs(tmp_path: Path) -> None:
    (tmp_path / "licences.csv").write_text("photo,licence\np1.png,CC0\n")
    pairs, tokenizer = make_material(tmp_path, licences=str(tmp_path / "licences.csv"))
    manifest = extract((pairs, tokenizer), tmp_path / "tokens")
    assert manifest.extra["licences"]["CC0"] == 1
    assert "| CC0 | 1 |" in (tmp_path / "tokens/train/README.md").read_text()


def test_the_photographs_of_the_project_all_have_one() -> None:
    names = sorted(path.name for path in (ROOT / "data/photos").glob("*.jpg"))
    table = read_licences(ROOT / "data/photos/licences.csv", names, names)
    assert table["licence"].null_count == table["author"].null_count == 0
    attribution = (ROOT / "data/photos/ATTRIBUTION.md").read_text()
    for row in table.to_pylist():
        line = next(line for line in attribution.splitlines() if f"| {row['photo']} |" in line)
        assert all(f"| {row[name]} |" in line for name in ("licence", "source", "author"))
