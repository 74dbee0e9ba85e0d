"""Sets of pairs and tokens in object stores: the bytes of a folder, resumed, refused, read."""

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from pipeline.config import DataSettings, PairsSettings
from pipeline.inspection.diff import token_difference
from pipeline.inspection.verify import verify_shards
from pipeline.loading.dataset import ShardedDataset
from pipeline.pairs.make import make_set
from pipeline.shards.index import INDEX
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import read_shard
from pipeline.sources.scan import scan_photos
from pipeline.storage import lease
from pipeline.storage.location import Location, Url, file_sizes, write_text
from pipeline.tokens.extract import extract_set
from pipeline.tokens.statistics import token_statistics
from tests.support.paths import ROOT
from tests.support.tokens import SETTINGS, make_material, with_changes
from tvqrap.cli.shard_sets import trust_params
from tvqrap.cli.tokens import app
from tvqrap.runtime.errors import UserError


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """(pairs of seven samples in three shards, tokenizer, their tokens), all in folders."""
    root = tmp_path_factory.mktemp("remote")
    pairs, tokenizer = make_material(root)
    extract_set(pairs, tokenizer, root / "tokens", SETTINGS, executor="serial", workers=1)
    return pairs, tokenizer, root / "tokens/train"


class Killed(BaseException):
    """Ends a run as a kill would: nothing catches it."""


def kill(samples: int) -> None:
    raise Killed


def contents(folder: Location) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in file_sizes(folder)}


def extract(material: tuple[Path, Path, Path], work: Location, **options: Any) -> Manifest:
    """Extracts into `work/train`."""
    options = {"executor": "serial", "workers": 1, **options}
    return extract_set(material[0], material[1], work, SETTINGS, **options)


def test_a_store_holds_the_bytes_of_a_folder(material: tuple[Path, Path, Path], store: Url) -> None:
    manifest = extract(material, store)
    assert contents(store / "train") == contents(material[2])
    assert manifest == Manifest.load(store / "train")
    assert verify_shards(store / "train", hashes=True) == []


def test_a_full_check_fetches_each_shard_once(
    material: tuple[Path, Path, Path], memory: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    extract(material, memory)
    fetched: list[str] = []
    read = Url.read_bytes
    monkeypatch.setattr(Url, "read_bytes", lambda url: fetched.append(url.name) or read(url))
    assert verify_shards(memory / "train", hashes=True) == []
    assert sorted(fetched) == [
        "000000.tar",
        "000001.tar",
        "000002.tar",
        "index.parquet",
        "manifest.json",
    ]


def test_worker_processes_reach_a_store_by_their_environment(
    material: tuple[Path, Path, Path], s3: Url
) -> None:
    extract(material, s3, executor="processes")
    assert contents(s3 / "train") == contents(material[2])


def test_pairs_too_can_be_made_in_a_store_and_extracted_from_there(
    material: tuple[Path, Path, Path],
    pairs: PairsSettings,
    data: DataSettings,
    memory: Url,
    tmp_path: Path,
) -> None:
    scan = scan_photos(data, executor="serial", workers=1)
    for work in (tmp_path / "pairs", memory / "pairs"):
        make_set("test", pairs, data, scan, work, executor="serial", workers=1)
    assert contents(memory / "pairs/test") == contents(tmp_path / "pairs/test")
    written = {name: time for name, time in stamps(memory / "pairs/test").items() if ".tar" in name}
    make_set("test", pairs, data, scan, memory / "pairs", executor="serial", workers=1)
    assert written.items() <= stamps(memory / "pairs/test").items(), "a shard was made again"


def stamps(folder: Url) -> dict[str, Any]:
    """When each file of a folder in memory was written."""
    return {entry["name"].rpartition("/")[2]: entry["created"] for entry in folder.entries()}


def test_it_resumes_from_the_shards_in_the_store(
    material: tuple[Path, Path, Path], memory: Url
) -> None:
    with pytest.raises(Killed):
        extract(material, memory, on_shard=kill)
    (first,) = (name for name in file_sizes(memory / "train"))
    assert first == "000000.tar"
    written = stamps(memory / "train")[first]
    write_text(memory / "train/000001.tar", "of a dead writer")
    write_text(memory / "train/000007.tar", "of a dead writer")
    heard: list[int] = []
    extract(material, memory, on_shard=heard.append)
    assert stamps(memory / "train")[first] == written, "the finished shard was made again"
    assert sum(heard) == 7
    assert contents(memory / "train") == contents(material[2])


def test_bad_samples_are_quarantined_in_the_store(
    material: tuple[Path, Path, Path], memory: Url, tmp_path: Path
) -> None:
    pairs = with_changes(
        material[0],
        tmp_path / "pairs/train",
        lambda number, sample: replace(sample, members={"json": b"{}"}) if number == 1 else sample,
    )
    manifest = extract((pairs, *material[1:]), memory)
    (dropped,) = manifest.extra["dropped"]
    about = json.loads((memory / f"quarantine/train/{dropped['key']}.error.json").read_bytes())
    assert about["reason"] == dropped["reason"] == "it has no hr.png"


@pytest.mark.slow
def test_a_node_that_does_not_see_the_store_stops_the_run(
    material: tuple[Path, Path, Path], memory: Url
) -> None:
    """What is in this process's memory is in no other's."""
    with pytest.raises(UserError, match=r"does not see the driver's memory://.*train\.storage \("):
        extract(material, memory, executor="processes")
    assert not (memory / "train/manifest.json").is_file()


def test_a_driver_whose_lease_was_taken_publishes_nothing(
    material: tuple[Path, Path, Path], memory: Url, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SECONDS", 6.0)

    def taken(samples: int) -> None:
        log = memory / "train.lease"
        (log / f"{int(max(file_sizes(log))) + 5:012d}").create(
            b'{"holder": "7 on other", "mark": ""}'
        )
        time.sleep(0.6 * lease.SECONDS)  # a renewal fails meanwhile

    with pytest.raises(UserError, match=r"is already running here \(process 7 on other\)"):
        extract(material, memory, on_shard=taken)
    assert not (memory / "train/manifest.json").is_file()


def test_a_missing_bucket_is_one_line(material: tuple[Path, Path, Path], s3_server: None) -> None:
    with pytest.raises(UserError, match=r"^s3://nowhere/.*: cannot be written \(.*does not exist"):
        extract(material, Url("s3://nowhere/tokens"))
    with pytest.raises(UserError, match=r"^s3://nowhere/train/manifest.json: not found"):
        Manifest.load(Url("s3://nowhere/train"))


def test_a_manifest_names_shards_in_the_storage_of_the_params(
    material: tuple[Path, Path, Path],
    memory: Url,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that reads a set reads it through the manifest that a checkout has."""
    manifest = extract(material, memory)
    referring = tmp_path / "data/train"
    replace(manifest, location=str(memory / "train")).save(referring)
    assert [path.name for path in referring.iterdir()] == ["manifest.json"]
    (referring / INDEX).write_bytes((memory / "train" / INDEX).read_bytes())
    assert Manifest.load(referring).root == manifest.root
    with pytest.raises(UserError, match=r"which no `storage` of params\.yaml holds"):
        verify_shards(referring, hashes=True)
    (tmp_path / "stages/profiles").mkdir(parents=True)
    (tmp_path / "dvc.yaml").touch()
    params = (ROOT / "params.yaml").read_text().replace("  storage:\n", f"  storage: {memory}\n")
    (tmp_path / "params.yaml").write_text(params)
    monkeypatch.chdir(tmp_path)
    trust_params()
    assert verify_shards(referring, hashes=True) == []
    assert token_difference(referring, material[2]).equal
    assert token_statistics(referring).samples == 7
    joined, local = (
        ShardedDataset.open(material[0], referring),
        ShardedDataset.open(material[0], material[2]),
    )
    assert [joined.read(shard) for shard in range(3)] == [local.read(shard) for shard in range(3)]

    def run(*arguments: object, code: int = 0) -> str:
        result = CliRunner().invoke(app, [str(argument) for argument in arguments])
        assert result.exit_code == code, result.output
        return result.stdout

    given = ["--pairs", material[0], "--tokenizer", material[1]]
    assert f"stored   {memory / 'train'}" in run("inspect", referring.parent)
    for folder in (referring, memory / "train"):
        assert "sound" in run("verify", folder, "--deep", *given)
        assert "7 samples" in run("stats", folder, *given)
    key = next(read_shard(memory / "train/000002.tar")).key
    run("preview", key, "--tokens", referring, "-o", tmp_path / "sheet.png", *given)
    assert (tmp_path / "sheet.png").stat().st_size > 1000
    write_text(memory / "train/000001.tar", "other")
    assert "000001.tar: 5 bytes, expected" in run("verify", referring, code=1)
