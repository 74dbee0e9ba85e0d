"""The index of a set: what its rows say, single samples by it, and what is refused."""

import io
import json
import shutil
import tarfile
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from pipeline.config import PairsSettings
from pipeline.inspection.verify import verify_shards
from pipeline.loading.dataset import ShardedDataset
from pipeline.pairs.make import make_set
from pipeline.shards.codec import decode_array
from pipeline.shards.index import INDEX, SampleIndex
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.sources.scan import scan_photos
from pipeline.storage.location import Url
from tests.support.pairs import PAIRS
from tests.support.tokens import extract, make_material, with_changes
from tvqrap.runtime.errors import UserError


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(pairs of 7 samples in 3 shards, tokenizer)."""
    return make_material(tmp_path_factory.mktemp("index"))


@pytest.fixture(scope="module")
def tokens(material: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tokens")
    extract(material, folder)
    return folder / "train"


def stored(folder: Path) -> list[Sample]:
    return [sample for path in sorted(folder.glob("*.tar")) for sample in read_shard(path)]


def rows(folder: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / INDEX).to_pylist()
    return found


def test_rows_say_what_the_records_say(material: tuple[Path, Path], tokens: Path) -> None:
    for folder in (material[0], tokens):
        preset = Manifest.load(folder).params["settings"]["degradation"]
        for row, sample in zip(rows(folder), stored(folder), strict=True):
            record = json.loads(sample.members["json"])
            assert row["key"] == sample.key
            assert [row[name] for name in ("left", "top", "right", "bottom")] == record["box"]
            for name in ("photo", "crop", "flip"):
                assert row[name] == record[name]
            for drawn, steps in zip(row["degradations"], record["degradations"], strict=True):
                assert drawn["preset"] == preset
                assert drawn["steps"].split() == [step["step"] for step in steps]
                qualities = [step["quality"] for step in steps if step["step"] == "jpeg"]
                assert [drawn["jpeg1"], drawn["jpeg2"]] == qualities
                first = next(step for step in steps if step["step"] == "noise")
                assert drawn["noise1"] == first["kind"]
                assert drawn["level1"] == first.get("sigma", first.get("scale"))
                blur = steps[0] if steps[0]["step"] == "blur" else {}
                assert drawn["blur1"] == blur.get("kind")
                assert drawn["sigma1"] == max(blur.get("sigma", [None]))


def test_the_place_of_a_row_is_that_part_of_the_tar_file(tokens: Path) -> None:
    for row, sample in zip(rows(tokens), stored(tokens), strict=True):
        with (tokens / row["shard"]).open("rb") as shard:
            shard.seek(row["offset"])
            part = io.BytesIO(shard.read(row["size"]))
        with tarfile.open(fileobj=part) as tar:
            names = [f"{sample.key}.{suffix}" for suffix in sorted(sample.members)]
            assert tar.getnames() == names


def test_token_rows_have_the_entropy_of_their_codes(tokens: Path, material: Any) -> None:
    for row, sample in zip(rows(tokens), stored(tokens), strict=True):
        counts = Counter(decode_array(sample.members["codes.npy"]).ravel().tolist())
        share = np.array(list(counts.values())) / counts.total()
        assert row["different_codes"] == len(counts)
        assert row["code_entropy"] == pytest.approx(-(share * np.log(share)).sum(), abs=1e-6)
    assert {row["code_entropy"] for row in rows(material[0])} == {None}


def test_a_mixture_names_the_preset_of_each_image(pairs, data, tmp_path) -> None:  # type: ignore[no-untyped-def]
    presets = {"train": 0.5, "other": 0.5}
    train = PAIRS["sets"]["train"] | {"degradation": presets}
    degradations = dict.fromkeys(presets, PAIRS["degradations"]["train"])
    mixed = PairsSettings.model_validate(
        {**PAIRS, "sets": {"train": train}, "degradations": degradations}
    )
    scan = scan_photos(data, executor="serial", workers=1)
    make_set("train", mixed, data, scan, tmp_path, executor="serial", workers=1)
    for row, sample in zip(rows(tmp_path / "train"), stored(tmp_path / "train"), strict=True):
        drawn = [each["preset"] for each in row["degradations"]]
        assert drawn == json.loads(sample.members["json"])["presets"]


def no_reading(*_: object) -> None:
    raise AssertionError("a whole shard is read")


def test_samples_by_number_and_key_without_reading_shards(
    material: tuple[Path, Path], tokens: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    merged = [
        Sample(pair.key, {**token.members, **pair.members})
        for pair, token in zip(stored(material[0]), stored(tokens), strict=True)
    ]
    by_key = {sample.key: sample for sample in stored(tokens)}
    for module in ("index", "tar"):
        monkeypatch.setattr(f"pipeline.shards.{module}.read_shard", no_reading)
    dataset = ShardedDataset.open(material[0], tokens)
    assert len(dataset) == 7
    assert [dataset[number] for number in range(7)] == merged
    assert dataset[-1] == merged[-1]
    with pytest.raises(IndexError):
        dataset[7]
    index = SampleIndex.open(tokens)
    chosen = [merged[5].key, merged[1].key]
    assert index.find(chosen) == {key: by_key[key] for key in chosen}
    with pytest.raises(UserError, match="train: found no sample absent"):
        index.find([*chosen, "absent"])


def test_samples_by_number_leave_dropped_ones_out(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    def without_hr(number: int, sample: Sample) -> Sample:
        members = {name: each for name, each in sample.members.items() if name != "hr.png"}
        return Sample(sample.key, members) if number in (1, 3) else sample

    pairs = with_changes(material[0], tmp_path / "pairs/train", without_hr)
    extract((pairs, material[1]), tmp_path / "tokens")
    dataset = ShardedDataset.open(pairs, tmp_path / "tokens/train")
    read = [sample for shard in range(3) for sample in dataset.read(shard)]
    assert [dataset[number] for number in range(len(dataset))] == read
    assert len(read) == 5


def test_a_set_in_a_store_is_read_in_parts(
    material: tuple[Path, Path], memory: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in material[0].iterdir():
        (memory / "train" / path.name).write_bytes(path.read_bytes())
    fetched: list[str] = []
    read = Url.read_bytes

    def listed(self: Url) -> bytes:
        fetched.append(self.name)
        return read(self)

    monkeypatch.setattr(Url, "read_bytes", listed)
    dataset = ShardedDataset.open(memory / "train")
    assert dataset[4] == stored(material[0])[4]
    assert set(fetched) == {"manifest.json", INDEX}


def test_a_set_without_index_is_read_all_the_same(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    folder = shutil.copytree(material[0], tmp_path / "train")
    (folder / INDEX).unlink()
    assert [SampleIndex.open(folder)[number] for number in range(7)] == stored(folder)
    assert verify_shards(folder, hashes=False) == [f"{folder / INDEX}: missing"]
    document = json.loads((folder / "manifest.json").read_text())
    (folder / "manifest.json").write_text(json.dumps(document | {"schema": 2, "skipped": []}))
    assert verify_shards(folder, hashes=True) == []


def test_rows_that_a_writer_left_are_checked(pairs, data, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Where they are missing, cut or of another shard, the shard itself is read."""
    scan = scan_photos(data, executor="serial", workers=1)

    def made() -> bytes:
        make_set("train", pairs, data, scan, tmp_path, executor="serial", workers=1)
        return (tmp_path / "train" / INDEX).read_bytes()

    whole = made()
    parts = [tmp_path / f"rows/train/00000{n}.tar.parquet" for n in range(4)]
    parts[0].unlink()
    parts[1].write_bytes(parts[1].read_bytes()[:-50])
    content = bytearray(parts[2].read_bytes())
    content[50] ^= 1
    parts[2].write_bytes(content)
    parts[3].write_bytes(parts[2].read_bytes())
    assert made() == whole


def changed(table: pa.Table, name: str, value: Any) -> pa.Table:
    """The table with another value in the second row of a column."""
    values = table[name].to_pylist()
    values[1] = value
    place = table.schema.get_field_index(name)
    return table.set_column(place, table.schema.field(name), pa.array(values, table[name].type))


@pytest.mark.parametrize(
    ("name", "value"),
    [("offset", -512), ("size", 2**40), ("offset", None), ("key", "other"), ("size", 512)],
)
def test_places_that_a_shard_does_not_have_are_refused(
    material: tuple[Path, Path], tmp_path: Path, name: str, value: Any
) -> None:
    folder = shutil.copytree(material[0], tmp_path / "train")
    pq.write_table(changed(pq.read_table(folder / INDEX), name, value), folder / INDEX)
    index = SampleIndex.open(folder)
    assert index[0] == stored(folder)[0]
    with pytest.raises(UserError) as caught:
        index[1]
    assert "\n" not in str(caught.value) and str(folder) in str(caught.value)
    (problem,) = verify_shards(folder, hashes=True)
    assert problem == f"{folder / '000000.tar'}: {INDEX} has other rows for it"


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:200]),
        lambda path: path.write_bytes(path.read_bytes()[:-9] + b"\x7f" + path.read_bytes()[-8:]),
        lambda path: pq.write_table(pq.read_table(path).slice(1), path),
        lambda path: pq.write_table(pq.read_table(path).drop(["size"]), path),
        lambda path: pq.write_table(
            changed(pq.read_table(path), "shard", "../../elsewhere.tar"), path
        ),
    ],
)
def test_a_damaged_index_is_one_line(
    material: tuple[Path, Path], tmp_path: Path, damage: Callable[[Path], None]
) -> None:
    folder = shutil.copytree(material[0], tmp_path / "train")
    damage(folder / INDEX)
    with pytest.raises(UserError) as caught:
        SampleIndex.open(folder)[1]
    assert "\n" not in str(caught.value) and str(folder / INDEX) in str(caught.value)
    assert any(str(folder / INDEX) in line for line in verify_shards(folder, hashes=False))


def test_records_of_other_programs_give_rows_with_gaps(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    odd = [
        {},
        [],
        {"photo": 5, "crop": "x", "box": [1], "flip": 1, "degradations": {}, "presets": 3},
        {"degradations": [3, [None, {"step": 5}, {"step": "noise", "sigma": "x"}]]},
        {"degradations": [[{"step": "resize", "scale": 10**400}] * 5], "crop": 2**70},
        {"photo": "\ud800", "degradations": [[{"step": "lr", "sinc": 4}]]},
    ]

    def change(number: int, sample: Sample) -> Sample:
        if number >= len(odd):
            return sample
        return Sample(sample.key, sample.members | {"json": json.dumps(odd[number]).encode()})

    folder = with_changes(material[0], tmp_path / "train", change)
    found = rows(folder)
    assert [row["key"] for row in found] == [sample.key for sample in stored(folder)]
    assert [row["photo"] for row in found[:6]] == [None] * 6 and found[6]["photo"]
    assert verify_shards(folder, hashes=True) == []


def test_statistics_of_a_set_by_pyarrow(material: tuple[Path, Path], tokens: Path) -> None:
    """The example of docs/token-datasets.md."""
    index = pq.read_table(tokens / INDEX)
    by_photo = index.group_by("photo").aggregate([("code_entropy", "mean"), ("key", "count")])
    assert pc.sum(by_photo["key_count"]).as_py() == 7
    drawn = pc.list_flatten(index["degradations"])
    by_noise = pa.table({"noise": pc.struct_field(drawn, "noise1")}).group_by("noise")
    counts = by_noise.aggregate([("noise", "count")]).to_pylist()
    assert sum(row["noise_count"] for row in counts) == 14


def test_the_card_tells_what_the_manifest_tells(material: tuple[Path, Path], tokens: Path) -> None:
    for folder in (material[0], tokens):
        manifest = Manifest.load(folder)
        card = (folder / "README.md").read_text()
        assert card.startswith("---\n") and manifest.root in card
        assert "7 in 3 shards" in card and "| train | 1 |" in card
        assert "licences of the photographs were not given" in card
    assert manifest.extra["tokenizer"] in card
    assert replace(manifest, location="memory://elsewhere").root in card
