"""Manifests: what is refused of a document from outside, and where its shards may be."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.shards.manifest import Manifest, Skipped, reason_counts, trust_storage
from pipeline.shards.tar import Sample, read_shard, write_shard
from pipeline.storage.location import file_sha256
from tvqrap.runtime.errors import UserError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "train"
    rows = tuple(
        write_shard(folder / f"{n:06d}.tar", [Sample(f"p_{n:05d}", {"json": b"{}"})])
        for n in range(2)
    )
    params = {"settings": {"size": 32}}
    Manifest("pairs", "train", params, rows, {"truncated": 1}).save(folder)
    return folder


def rewritten(folder: Path, changes: dict[str, Any]) -> Path:
    """The folder, whose manifest has other values."""
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
    return folder


def test_a_manifest_is_read_as_it_was_saved(folder: Path) -> None:
    manifest = Manifest.load(folder)
    assert (manifest.samples, manifest.crop_size, manifest.home(folder)) == (2, 32, folder)
    manifest.save(folder)
    assert Manifest.load(folder) == manifest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"schema": 1}',
        '{"schema": 99, "root": "", "samples": 0}',
        "[" * 100_000,
        '{"schema": 2, "root": "", "samples": 0, "params": ' + '{"a":' * 100_000,
    ],
)
def test_damaged_manifests_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(UserError) as caught:
        Manifest.load(tmp_path)
    assert str(tmp_path / "manifest.json") in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_first_schema_asks_for_the_set_again(folder: Path) -> None:
    with pytest.raises(UserError, match=r"found schema 1, expected 3: make the set again"):
        Manifest.load(rewritten(folder, {"schema": 1, "lost": []}))


def test_the_second_schema_is_read_and_saved_as_the_newest(folder: Path) -> None:
    """It listed each photograph; reasons that differ in numbers alone now count as one."""
    listed = [{"name": f"{n}.jpg", "reason": f"{n}x64 pixels, too small"} for n in range(3)]
    listed.append({"name": "a.jpg", "reason": "truncated"})
    manifest = Manifest.load(rewritten(folder, {"schema": 2, "skipped": listed}))
    assert manifest.skipped == {"NxN pixels, too small": 3, "truncated": 1}
    manifest.save(folder)
    assert json.loads((folder / "manifest.json").read_text())["schema"] == 3
    assert Manifest.load(folder).skipped == manifest.skipped


def test_a_manifest_counts_few_reasons() -> None:
    skipped = [
        Skipped(f"{n}.jpg", f"reason {chr(97 + n // 26)}{chr(97 + n % 26)}") for n in range(300)
    ]
    counts = reason_counts([*skipped, Skipped("x.jpg", "reason aa")])
    assert sum(counts.values()) == 301 and len(counts) < 100
    assert counts["reason aa"] == 2 and counts["other reasons"] > 100


@pytest.mark.parametrize(
    "changes",
    [
        {"set": "/somewhere/victim"},
        {"set": "../../x"},
        {"set": None},
        {"set": "rows"},
        {"set": "a" * 300},
        {"kind": "photographs"},
        {"skipped": [{"name": "a.jpg", "reason": "x"}]},
        {"skipped": {"x": -1}},
        {"schema": 2, "skipped": [{"name": 5, "reason": "x"}]},
        {"schema": 2, "skipped": {"x": 1}},
        {"location": 5},
        {"params": {"settings": float("nan")}},
        {"extra": {"dropped": [{"shard": "000000.tar", "key": 5, "reason": "x"}]}},
        {"extra": {"tokenizer": ["a"]}},
        {"more": 1},
    ],
    ids=str,
)
def test_values_that_no_manifest_has_are_refused(folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(UserError, match=r"manifest\.json: not a manifest of shards"):
        Manifest.load(rewritten(folder, changes))


@pytest.mark.parametrize(
    "change",
    [
        {"name": 0},
        {"name": "../x.tar"},
        {"samples": 1.5},
        {"samples": -1},
        {"bytes": 1e300},
        {"bytes": "5"},
        {"sha256": "ab"},
        {"more": 1},
    ],
    ids=str,
)
def test_rows_that_no_shard_has_are_refused(folder: Path, change: dict[str, Any]) -> None:
    rows = json.loads((folder / "manifest.json").read_text())["shards"]
    for shards in ([rows[0] | change, rows[1]], [rows[0], rows[0]], [], None):
        with pytest.raises(UserError, match=r"manifest\.json: "):
            Manifest.load(rewritten(folder, {"shards": shards}))


def test_a_pipe_is_not_waited_for(folder: Path) -> None:
    shard, manifest = folder / "000001.tar", folder / "manifest.json"
    for path in (shard, manifest):
        path.unlink()
        os.mkfifo(path)
    with pytest.raises(UserError, match=r"manifest\.json: is not a regular file$"):
        Manifest.load(folder)
    for read in (file_sha256, lambda path: list(read_shard(path))):
        with pytest.raises(UserError, match=r"000001\.tar: is not a regular file$"):
            read(shard)


def test_shards_lie_in_the_folder_or_in_a_storage_of_the_params(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pipeline.shards.manifest._trusted", [])
    elsewhere = shutil.copytree(folder, tmp_path / "store/stage-01/train")
    for place in (str(elsewhere), "memory://store/stage-01/train", "s3://anyone/train"):
        manifest = Manifest.load(rewritten(folder, {"location": place}))
        with pytest.raises(UserError, match=r"which no `storage` of params\.yaml holds"):
            manifest.home(folder)
    trust_storage(None)
    trust_storage("memory://store")
    trust_storage(str(tmp_path / "store"))
    assert Manifest.load(rewritten(folder, {"location": str(elsewhere)})).home(folder) == elsewhere
    inside = rewritten(folder, {"location": "memory://store/stage-01/train"})
    assert str(Manifest.load(inside).home(folder)) == "memory://store/stage-01/train"
    for place in (
        "memory://store/../other",
        "memory://storehouse/train",
        f"{elsewhere}/../../../x",
    ):
        manifest = Manifest.load(rewritten(folder, {"location": place}))
        with pytest.raises(UserError, match=r"which no `storage`"):
            manifest.home(folder)
