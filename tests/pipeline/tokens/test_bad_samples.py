"""Samples that cannot be used are dropped with their reason, and no other sample with them."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipeline.executor.shards import ShardsFailed
from pipeline.loading.dataset import ShardedDataset
from pipeline.shards.codec import decode_png, encode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from pipeline.tokens.encode import half_structure
from pipeline.tokens.quarantine import BadSampleError
from tests.support.tokens import (
    Killed,
    contents,
    extract,
    kill,
    with_changes,
    with_member,
)


def too_small(number: int, sample: Sample) -> Sample:
    """The sample, but number 1 has an HR crop of a size that no tokenizer of ours takes."""
    if number != 1:
        return sample
    return Sample(
        sample.key, sample.members | {"hr.png": encode_png(np.zeros((24, 40, 3), np.uint8))}
    )


def test_a_bad_sample_is_dropped_with_its_reason_and_quarantined(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs = with_changes(material[0], tmp_path / "pairs/train", too_small)
    key = [sample.key for sample in read_shard(pairs / "000000.tar")][1]
    manifest = extract((pairs, material[1]), tmp_path / "out", quarantine=tmp_path / "aside")
    assert manifest.samples == 6
    assert manifest.extra["samples_in"] == 7
    reason = "its HR crop is 40x24, expected multiples of 64"
    assert manifest.extra["dropped"] == [{"shard": "000000.tar", "key": key, "reason": reason}]
    about = json.loads((tmp_path / f"aside/train/{key}.error.json").read_text())
    assert (about["key"], about["shard"], about["reason"]) == (key, "000000.tar", reason)
    assert "Traceback" in about["traceback"]
    hr = decode_png((tmp_path / f"aside/train/{key}.hr.png").read_bytes())
    assert hr.shape == (24, 40, 3)
    joined = ShardedDataset.open(pairs, tmp_path / "out/train")
    keys = [sample.key for shard in range(3) for sample in joined.read(shard)]
    assert joined.samples == len(set(keys)) == 6
    assert key not in keys
    with pytest.raises(Killed):
        extract((pairs, material[1]), tmp_path / "again", on_shard=kill)
    extract((pairs, material[1]), tmp_path / "again")
    assert contents(tmp_path / "out/train") == contents(tmp_path / "again/train")


def test_a_sample_that_was_mended_leaves_the_quarantine(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs = with_changes(material[0], tmp_path / "pairs/train", too_small)
    (lost,) = extract((pairs, material[1]), tmp_path).extra["dropped"]
    aside = tmp_path / "quarantine/train"
    kept = {path.name for path in aside.iterdir()}
    assert f"{lost['key']}.error.json" in kept
    (aside / "of_a_former_run_00001.error.json").write_text("{}")
    extract((pairs, material[1]), tmp_path)
    assert {path.name for path in aside.iterdir()} == kept
    assert not extract(material, tmp_path).extra["dropped"]
    assert not list(aside.iterdir())


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("hr.png", None, "it has no hr.png"),
        ("lr1.png", None, "it has no lr1.png"),
        ("lr0.png", encode_png(np.zeros((16, 24, 3), np.uint8)), "its lr0.png is 24x16, expected"),
        ("lr0.png", b"\x89PNG", "its lr0.png does not decode"),
        ("json", b"{", "its json does not decode"),
        ("json", b"[" * 100_000, "its json does not decode"),
        ("structure.npy", b"", "its structure.npy does not decode"),
    ],
)
def test_one_bad_member_quarantines_its_sample_and_no_other(
    name: str,
    content: bytes | None,
    reason: str,
    material: tuple[Path, Path],
    tmp_path: Path,
) -> None:
    pairs, key = with_member(material[0], tmp_path / "pairs/train", name, content)
    manifest = extract((pairs, material[1]), tmp_path / "out")
    assert manifest.samples == 6
    (dropped,) = manifest.extra["dropped"]
    assert dropped["key"] == key and dropped["reason"].startswith(reason)
    about = json.loads((tmp_path / f"out/quarantine/train/{key}.error.json").read_text())
    assert about["reason"] == dropped["reason"]


def test_a_missing_teachers_image_is_found_by_the_extraction(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    """Of a set with `target: both`, whose training reads it."""

    def with_teacher(number: int, sample: Sample) -> Sample:
        hr = sample.members["hr.png"]
        given = ("teacher0.png", "teacher1.png") if number != 1 else ("teacher0.png",)
        return Sample(sample.key, sample.members | dict.fromkeys(given, hr))

    pairs = with_changes(material[0], tmp_path / "pairs/train", with_teacher)
    manifest = Manifest.load(pairs)
    settings = manifest.params["settings"] | {"target": "both"}
    replace(manifest, params=manifest.params | {"settings": settings}).save(pairs)
    (dropped,) = extract((pairs, material[1]), tmp_path / "out").extra["dropped"]
    assert dropped["reason"] == "it has no teacher1.png"


def test_a_shard_of_bad_samples_only_fails(material: tuple[Path, Path], tmp_path: Path) -> None:
    def without_hr(number: int, sample: Sample) -> Sample:
        left = {name: data for name, data in sample.members.items() if name != "hr.png"}
        return Sample(sample.key, left) if number < 3 else sample

    pairs = with_changes(material[0], tmp_path / "pairs/train", without_hr)
    with pytest.raises(
        ShardsFailed, match=r"1 of 3 shards failed: 000000\.tar: .* none of its 3 samples .*hr\.png"
    ):
        extract((pairs, material[1]), tmp_path / "out")
    assert len(list((tmp_path / "out/train").glob("*.tar"))) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e5])
def test_a_structure_that_does_not_fit_16_bits_makes_a_bad_sample(value: float) -> None:
    with pytest.raises(BadSampleError, match="does not fit 16 bits"):
        half_structure(np.array([[[1.0, value]]], dtype=np.float32))
