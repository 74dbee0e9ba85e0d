"""Other people's readers read our shards: webdataset, Ray Data and Hugging Face datasets."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.shards.codec import decode_array, decode_png
from pipeline.shards.tar import read_shard
from pipeline.tokens.extract import extract_set
from tests.support.tokens import SETTINGS, make_material


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of pairs, folder of their tokens)."""
    root = tmp_path_factory.mktemp("interop")
    pairs, tokenizer = make_material(root)
    extract_set(pairs, tokenizer, root / "tokens", SETTINGS, executor="serial", workers=1)
    return pairs, root / "tokens/train"


def ours(folder: Path) -> dict[str, dict[str, bytes]]:
    samples = [each for path in sorted(folder.glob("*.tar")) for each in read_shard(path)]
    return {sample.key: sample.members for sample in samples}


def shards(folder: Path) -> list[str]:
    return [str(path) for path in sorted(folder.glob("*.tar"))]


def test_stock_webdataset_reads_pairs_and_tokens(sets: tuple[Path, Path]) -> None:
    import webdataset

    pairs, tokens = sets
    expected = ours(tokens)
    found = list(webdataset.WebDataset(shards(tokens), shardshuffle=False).decode("rgb8"))
    assert [sample["__key__"] for sample in found] == list(expected)
    for sample in found:
        members = expected[sample["__key__"]]
        np.testing.assert_array_equal(sample["codes.npy"], decode_array(members["codes.npy"]))
        assert sample["codes.npy"].dtype == np.uint16
        kept = decode_array(members["structure.npy"])
        np.testing.assert_array_equal(sample["structure.npy"], kept)
        np.testing.assert_array_equal(sample["lr1.png"], decode_png(members["lr1.png"]))
        assert sample["json"]["photo"].endswith(".png")
    for sample in webdataset.WebDataset(shards(pairs), shardshuffle=False).decode("rgb8"):
        assert sample["hr.png"].shape == (64, 64, 3)


def test_ray_data_reads_pairs_and_tokens(sets: tuple[Path, Path], ray_cluster: Any) -> None:
    import ray.data

    for folder, member in zip(sets, ("hr.png", "codes.npy"), strict=True):
        expected = ours(folder)
        found = ray.data.read_webdataset(shards(folder), decoder=None).take_all()
        assert {row["__key__"]: row[member] for row in found} == {
            key: members[member] for key, members in expected.items()
        }


def test_hugging_face_datasets_read_pairs_and_tokens(
    sets: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With features given: it infers no type for a record, whose steps have values of two types."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    import datasets

    for folder, size in zip(sets, (64, 16), strict=True):
        expected = ours(folder)
        image = datasets.Image()
        features = {"__key__": datasets.Value("string"), "__url__": datasets.Value("string")}
        features |= {"json": datasets.Json(), "lr0.png": image, "lr1.png": image}
        if folder == sets[0]:
            features["hr.png"] = image
        else:
            features["codes.npy"] = datasets.Array2D((size, size), "uint16")
            features["structure.npy"] = datasets.Array3D((4, 8, 8), "float16")
        found = datasets.load_dataset(
            "webdataset",
            data_files={"train": shards(folder)},
            features=datasets.Features(features),
            split="train",
            streaming=True,
        )
        rows = {row["__key__"]: row for row in found}
        assert list(rows) == list(expected)
        for key, members in expected.items():
            row = rows[key]
            lr = np.asarray(row["lr0.png"])
            np.testing.assert_array_equal(lr, decode_png(members["lr0.png"]))
            assert row["json"]["photo"].endswith(".png")
            for name in members.keys() & {"codes.npy", "structure.npy"}:
                np.testing.assert_array_equal(row[name], decode_array(members[name]))
