"""Token extraction: what the tokenizer says, the same bytes everywhere, exactly once, resumable."""

import json
import os
import shutil
import socket
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.config import TokensSettings
from pipeline.executor import shards
from pipeline.executor.shards import ShardsFailed
from pipeline.executor.shared_storage import WrittenProof
from pipeline.shards.codec import decode_array, decode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import read_shard
from pipeline.storage.lease import only_driver
from pipeline.tokens import extract as token_extraction
from pipeline.tokens.check import code_statistics
from pipeline.tokens.shard import Extractor
from pipeline.tokens.statistics import save_tables, token_statistics
from tests.support.tokens import (
    SETTINGS,
    SMALL,
    Killed,
    contents,
    extract,
    kill,
)
from tvqrap.pretrained.folder import load_tokenizer, read_config
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.hardware import Machine


def test_tokens_are_what_the_tokenizer_says(material: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, folder = material
    manifest = extract(material, tmp_path)
    tokenizer = load_tokenizer(folder)
    source = Manifest.load(pairs)
    assert manifest.samples == source.samples == 7
    assert [row.name for row in manifest.shards] == [row.name for row in source.shards]
    counts = np.zeros(SMALL.codebook, dtype=int)
    for row in source.shards:
        found = list(read_shard(tmp_path / "train" / row.name))
        for pair, tokens in zip(read_shard(pairs / row.name), found, strict=True):
            assert tokens.key == pair.key
            assert set(tokens.members) == set(pair.members) - {"hr.png"} | {
                "codes.npy",
                "structure.npy",
            }
            assert tokens.members["lr1.png"] == pair.members["lr1.png"]
            hr = torch.from_numpy(decode_png(pair.members["hr.png"])).permute(2, 0, 1)[None]
            structure, codes = tokenizer.tokenize(hr.float() / 127.5 - 1)
            stored = decode_array(tokens.members["codes.npy"])
            assert stored.dtype == np.uint16 and stored.shape == (16, 16)
            assert (stored == codes[0].numpy()).mean() > 0.99  # another batch, other last bits
            assert structure is not None
            kept = decode_array(tokens.members["structure.npy"])
            assert kept.dtype == np.float16
            np.testing.assert_allclose(kept, structure[0].numpy(), rtol=2e-3, atol=2e-3)
            counts += np.bincount(stored.ravel(), minlength=SMALL.codebook)
    assert manifest.extra["code_perplexity"] == code_statistics(counts)["code_perplexity"]


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_the_same_bytes(
    workers: int, material: tuple[Path, Path], tmp_path: Path, ray_cluster: Any
) -> None:
    extract(material, tmp_path / "here")
    extract(material, tmp_path / "ray", executor="ray", workers=workers)
    assert contents(tmp_path / "here/train") == contents(tmp_path / "ray/train")


def test_it_resumes_from_finished_shards(material: tuple[Path, Path], tmp_path: Path) -> None:
    extract(material, tmp_path / "whole")
    done: list[int] = []

    def die_after_first(samples: int) -> None:
        done.append(samples)
        raise Killed

    with pytest.raises(Killed):
        extract(material, tmp_path / "parts", on_shard=die_after_first)
    assert not (tmp_path / "parts/train/manifest.json").exists()
    first = tmp_path / "parts/train/000000.tar"
    written = first.stat().st_mtime_ns
    heard: list[int] = []
    extract(material, tmp_path / "parts", on_shard=heard.append)
    assert first.stat().st_mtime_ns == written, "the finished shard was made again"
    assert sum(heard) == 7
    assert contents(tmp_path / "whole/train") == contents(tmp_path / "parts/train")


def test_tables_of_the_codes_are_those_of_the_finished_set(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    with pytest.raises(Killed):
        extract(material, tmp_path, on_shard=kill)
    extract(material, tmp_path, tables=tmp_path / "tables")
    save_tables(token_statistics(tmp_path / "train"), tmp_path / "read", "train")
    for name in ("codes/train.tsv", "drift/train.tsv"):
        assert (tmp_path / "tables" / name).read_text() == (tmp_path / "read" / name).read_text()
    percent = np.loadtxt(tmp_path / "read/codes/train.tsv", skiprows=1)[:, 3]
    assert percent.sum() == pytest.approx(100, abs=1e-3) and (np.diff(percent) <= 0).all()


def test_a_finished_shard_that_was_damaged_is_made_again(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    extract(material, tmp_path / "whole")
    with pytest.raises(Killed):
        extract(material, tmp_path / "parts", on_shard=kill)
    (tmp_path / "parts/train/000000.tar").write_bytes(b"cut")
    extract(material, tmp_path / "parts")
    assert contents(tmp_path / "whole/train") == contents(tmp_path / "parts/train")


def test_a_broken_shard_is_listed_and_the_others_are_finished(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs = shutil.copytree(material[0], tmp_path / "pairs/train")
    shard = pairs / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:2048])
    said = r"1 of 3 shards failed: 000001\.tar: .*000001\.tar.*; tracebacks in "
    with pytest.raises(ShardsFailed, match=said) as caught:
        extract((pairs, material[1]), tmp_path / "out")
    (log,) = (tmp_path / "out/logs/train").iterdir()
    assert str(caught.value).endswith(str(log))
    tries = [json.loads(line) for line in log.read_text().splitlines()]
    assert [(each["shard"], each["attempt"], "error" in each) for each in tries] == [
        ("000000.tar", 1, False),
        ("000001.tar", 1, True),
        ("000002.tar", 1, False),
        ("000001.tar", 2, True),
    ]
    for each in tries:
        assert (each["host"], each["pid"]) == (socket.gethostname(), os.getpid())
        assert each["seconds"] >= 0
    assert "Traceback" in tries[1]["traceback"] and "not a readable" in tries[1]["error"]
    assert {path.name for path in (tmp_path / "out/train").glob("*.tar")} == {
        "000000.tar",
        "000002.tar",
    }


def test_a_shard_that_cannot_be_written_fails(material: tuple[Path, Path], tmp_path: Path) -> None:
    (tmp_path / "out/train/000001.tar").mkdir(parents=True)
    with pytest.raises(ShardsFailed, match=r"1 of 3 shards failed: 000001\.tar: IsADirectoryError"):
        extract(material, tmp_path / "out")
    assert not list((tmp_path / "out/train").glob(".*")), "a half shard was left"


def test_the_manifest_says_how_tokens_were_made(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    extract(material, tmp_path)
    content = json.loads((tmp_path / "train/manifest.json").read_text())
    assert content["extra"]["architecture"] == SMALL.to_dict()
    assert content["extra"]["pairs"] == Manifest.load(material[0]).root
    for key in ("precision", "device", "batch", "threads", "codes_used"):
        assert key in content["extra"]
    sources = [row.sha256 for row in Manifest.load(material[0]).shards]
    assert [row["source"] for row in content["shards"]] == sources
    assert len({row["plan"] for row in content["shards"]}) == 3
    assert content["extra"]["samples_in"] == content["samples"] == 7
    assert content["extra"]["dropped"] == []


def test_a_pair_shard_that_is_not_its_manifests_fails(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs = shutil.copytree(material[0], tmp_path / "pairs/train")
    shutil.copy(pairs / "000000.tar", pairs / "000001.tar")
    with pytest.raises(ShardsFailed, match=r"000001\.tar: found SHA-256 .* its manifest says"):
        extract((pairs, material[1]), tmp_path / "out")


def test_a_second_driver_is_refused_with_the_firsts_host_and_process(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    with (
        only_driver(tmp_path / "train", "extraction"),
        pytest.raises(UserError) as caught,
    ):
        extract(material, tmp_path)
    assert str(caught.value) == (
        f"the extraction into {tmp_path / 'train'} is already running here (process {os.getpid()} "
        f"on {socket.gethostname()}); wait for it or stop it first"
    )
    # A driver that was killed leaves the name behind, but not the lock.
    (tmp_path / "train.lock").write_text("1 on gone")
    assert extract(material, tmp_path).samples == 7


def test_a_worker_with_other_storage_is_refused(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    extractor = Extractor(
        tokenizer=material[1],
        fingerprint=read_config(material[1]).fingerprint,
        pairs=material[0],
        pairs_root=Manifest.load(material[0]).root,
        out=tmp_path / "train",
        quarantine=tmp_path / "aside",
        settings=SETTINGS,
        storage=WrittenProof(tmp_path / "train.storage", "the driver's"),
    )
    (tmp_path / "train.storage").write_text("another's")
    with pytest.raises(UserError, match=rf"{socket.gethostname()} does not see .*another's"):
        extractor()
    (tmp_path / "train.storage").write_text("the driver's")
    with pytest.raises(UserError, match=r"sees pairs \w{12} in .* where the driver sees 000000"):
        replace(extractor, pairs_root="0" * 64)()
    with pytest.raises(UserError, match=r"not see the driver's pairs \(.*manifest\.json: not f"):
        replace(extractor, pairs=tmp_path)()


def test_a_manifest_does_not_choose_the_folder_that_is_swept(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    pairs = shutil.copytree(material[0], tmp_path / "pairs/train")
    kept = tmp_path / "out/victim/000000.tar"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"another set's")
    content = json.loads((pairs / "manifest.json").read_text())
    for name in (str(kept.parent), "../out/victim", "victim", None):
        (pairs / "manifest.json").write_text(json.dumps(content | {"set": name}))
        with pytest.raises(UserError, match=r"not a manifest|expected a folder of that"):
            extract((pairs, material[1]), tmp_path / "out")
        assert kept.read_bytes() == b"another set's"


def test_what_dead_writers_left_is_swept(material: tuple[Path, Path], tmp_path: Path) -> None:
    for folder in ("train", "rows/train"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / ".tvqrap.00000000.4711.0a1b2c3d.tmp").write_bytes(b"half")
    extract(material, tmp_path)
    assert not list(tmp_path.rglob("*.tmp"))


def test_a_run_on_another_machine_takes_over_no_shard(
    material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Killed):
        extract(material, tmp_path, on_shard=kill)
    first = tmp_path / "train/000000.tar"
    written = first.stat().st_mtime_ns
    heard: list[int] = []
    for other in (Machine("another GPU", "2.0"), Machine("another GPU", "2.1")):
        monkeypatch.setattr(Machine, "here", lambda device, other=other: other)
        (tmp_path / "rows/train/000002.tar.json").unlink(missing_ok=True)
        manifest = extract(material, tmp_path, on_shard=heard.append)
        assert manifest.extra["machine"] == {"device": other.device, "torch": other.torch}
        rows = [
            json.loads(path.read_text().splitlines()[0])
            for path in (tmp_path / "rows/train").glob("*.json")
        ]
        assert [row["machine"] for row in rows] == [manifest.extra["machine"]] * 3
        assert first.stat().st_mtime_ns > written, "the other machine's shard was kept"
        written = first.stat().st_mtime_ns
        assert sum(heard) == 7, "each sample is heard of once"
        heard.clear()


def test_workers_of_two_kinds_are_refused_with_both_names(
    material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []

    def another_at_every_start(device: str) -> Machine:
        calls.append(device)
        return Machine(f"CPU {len(calls)}", "2.0")

    class Restarted(Extractor):
        def _extract(self, encoder: Any, *given: Any) -> Any:
            encoder.machine = Machine.here("cpu")
            return super()._extract(encoder, *given)

    monkeypatch.setattr(Machine, "here", another_at_every_start)
    monkeypatch.setattr(token_extraction, "Extractor", Restarted)
    with pytest.raises(UserError) as caught:
        extract(material, tmp_path)
    assert str(caught.value) == (
        f"{tmp_path}/train/000001.tar: made on CPU 3 with torch 2.0, the finished shards on CPU 2 "
        "with torch 2.0; expected workers of one kind, because another kind may give other bytes"
    )
    assert not (tmp_path / "train/manifest.json").exists()


def test_a_fraction_of_a_gpu_is_requested_of_ray_and_changes_nothing_else(
    material: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[float, float]] = []
    run = shards.run_tasks

    def watched(*given: Any, cpus: float, gpus: float, **options: Any) -> Any:
        asked.append((cpus, gpus))
        return run(*given, **options)

    monkeypatch.setattr(shards, "run_tasks", watched)
    shared = SETTINGS.model_copy(update={"gpus": 0.25})
    whole = extract(material, tmp_path)
    assert extract(material, tmp_path / "shared", settings=shared) == whole
    assert asked == [(1, 0), (1, 0)], "on a CPU none is asked for"
    cuda = TokensSettings(device="cuda", batch_size=2, threads=4, gpus=0.25, storage=None)
    with pytest.raises(UserError, match="finds no such device"):
        extract(material, tmp_path / "cuda", settings=cuda)
    assert asked[2] == (4, 0.25)


@pytest.mark.parametrize("gpus", [0.0, -1.0, 1.5])
def test_impossible_fractions_of_gpus_are_refused(gpus: float) -> None:
    given = {"device": "cuda", "batch_size": 2, "threads": 1, "storage": None}
    with pytest.raises(ValueError, match="gpus"):
        TokensSettings.model_validate({**given, "gpus": gpus})
    for possible in (0.1, 1, 1.0, 3.0):
        assert TokensSettings.model_validate({**given, "gpus": possible}).gpus == possible


def test_shards_of_other_settings_are_made_again(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    other = TokensSettings(device="cpu", batch_size=3, threads=1, gpus=1.0, storage=None)
    with pytest.raises(Killed):
        extract(material, tmp_path / "mixed", on_shard=kill)
    heard: list[int] = []
    extract(material, tmp_path / "mixed", settings=other, on_shard=heard.append)
    extract(material, tmp_path / "whole", settings=other)
    assert contents(tmp_path / "whole/train") == contents(tmp_path / "mixed/train")
    rows = [
        json.loads(path.read_text().splitlines()[0])
        for path in (tmp_path / "mixed/rows/train").glob("*.json")
    ]
    whole = [
        json.loads(path.read_text().splitlines()[0])
        for path in (tmp_path / "whole/rows/train").glob("*.json")
    ]
    assert sorted(row["row"]["plan"] for row in rows) == sorted(row["row"]["plan"] for row in whole)
