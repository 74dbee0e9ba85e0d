"""Damaged shards, manifests and records, through the commands and functions that read them."""

import contextlib
import hashlib
import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.pairs.index import listed_pair_set, pair_sets_text
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import read_shard
from pipeline.tokens.extract import extract_set
from tests.support.fuzzing import Files, Trial, assert_no_fault, command
from tests.support.mutations import damaged, odd_json, with_checksums
from tests.support.tokens import SETTINGS, make_material

pytestmark = pytest.mark.slow

SHARD = "000000.tar"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `pairs/train` of two shards, `tokenizer`, and `tokens/train`."""
    torch.set_num_threads(1)
    root = tmp_path_factory.mktemp("sets")
    pairs, tokenizer = make_material(root, count=3, shard_size=2)
    extract_set(pairs, tokenizer, root / "tokens", SETTINGS, executor="serial", workers=1)
    return root


@pytest.fixture(autouse=True)
def no_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands do not read the params of the checkout each time."""
    monkeypatch.setattr("tvqrap.cli.shard_sets.find_checkout", lambda: None)


def content(folder: Path) -> dict[str, bytes]:
    """Files of a set, by path below the folder of sets."""
    return {
        path.relative_to(folder.parent).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def listing_it(files: Files) -> dict[str, bytes]:
    """The files, with a manifest that has size, hash and root of the shards as they are."""
    document = json.loads(files["train/manifest.json"])
    for row in document["shards"]:
        shard = files[f"train/{row['name']}"]
        row |= {"bytes": len(shard), "sha256": hashlib.sha256(shard).hexdigest()}
    return {**files, "train/manifest.json": _rooted(document)}


def _rooted(document: dict[str, Any]) -> bytes:
    """The text of a manifest whose root and samples are those of its rows."""
    rows = document["shards"]
    lines = "".join(f"{row['name']} {row['sha256']}\n" for row in rows)
    document["root"] = hashlib.sha256(lines.encode()).hexdigest()
    document["samples"] = sum(row["samples"] for row in rows)
    return json.dumps(document).encode()


def with_odd_member(shard: bytes, rng: Random) -> bytes:
    """The shard, with one member damaged, left out, or there twice."""
    with tarfile.open(fileobj=io.BytesIO(shard)) as tar:
        members = [(each.name, tar.extractfile(each).read()) for each in tar]  # type: ignore[union-attr]
    place = rng.randrange(len(members))
    name, payload = members[place]
    change = rng.randrange(6)
    if change == 0:
        del members[place]
    elif change == 1:
        members.insert(rng.randrange(len(members)), members[place])
    elif change == 2:
        members[place] = (name, rng.choice(members)[1])
    else:
        odd = odd_json(payload, rng) if name.endswith("json") else damaged(payload, rng)
        members[place] = (name, with_checksums(odd) if name.endswith("png") else odd)
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as tar:
        for name, payload in members:
            entry = tarfile.TarInfo(name)
            entry.size = len(payload)
            tar.addfile(entry, io.BytesIO(payload))
    return stream.getvalue()


def odd_set(sound: Path) -> Callable[[Random], Files]:
    """Makes copies of a set of which a shard, a member, or the manifest is damaged."""
    whole = content(sound)

    def make(rng: Random) -> Files:
        kind = rng.randrange(4)
        if kind == 0:
            shard = damaged(whole[f"train/{SHARD}"], rng, [whole["train/000001.tar"]])
            return listing_it({**whole, f"train/{SHARD}": shard})
        if kind == 1:
            shard = with_odd_member(whole[f"train/{SHARD}"], rng)
            return listing_it({**whole, f"train/{SHARD}": shard})
        odd = odd_json(whole["train/manifest.json"], rng)
        if kind == 2:  # consistent in itself, where it still can be
            with contextlib.suppress(Exception):
                odd = _rooted(json.loads(odd))
        return {**whole, "train/manifest.json": odd}

    return make


def test_commands_on_tokens(root: Path, tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        folder = given / "train"
        command("tokens", "inspect", folder)
        command("tokens", "verify", folder, "--full", "--json")
        command("tokens", "stats", folder, "--margins", 0, "-o", out / "stats")
        command("tokens", "diff", folder, root / "tokens/train")

    assert_no_fault(Trial("tokens", odd_set(root / "tokens/train"), use), tmp_path, 120)


def test_commands_that_encode_again(root: Path, tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        more = ("--pairs", root / "pairs/train", "--tokenizer", root / "tokenizer")
        command("tokens", "stats", given / "train", *more)
        command("tokens", "verify", given / "train", "--deep", *more)
        keys = [sample.key for sample in read_shard(root / "pairs/train" / SHARD)]
        command("tokens", "preview", *keys, "--tokens", given / "train", "-o", out / "a.png", *more)

    assert_no_fault(Trial("tokens again", odd_set(root / "tokens/train"), use), tmp_path, 30)


def test_the_loader(root: Path, tmp_path: Path) -> None:
    def use(given: Path, out: Path) -> None:
        sets = ShardedDataset.open(given / "train", root / "pairs/train")
        chosen = MemberSelection(hr=True, lr=True, tokens=True)
        Loader(sets, chosen, seed=0, batch_size=2).all()
        batches = Loader(sets, chosen, seed=0, batch_size=2).batches(0)
        for _ in range(3):
            next(batches)
        batches.close()

    assert_no_fault(Trial("loader", odd_set(root / "tokens/train"), use), tmp_path, 150)


def test_the_extraction(root: Path, tmp_path: Path) -> None:
    """Damaged pairs give whole tokens of the others, or none."""

    def use(given: Path, out: Path) -> None:
        sets = (given / "train", root / "tokenizer", out / "tokens")
        manifest = extract_set(*sets, SETTINGS, executor="serial", workers=1)
        assert all(row.samples for row in manifest.shards)
        done = command("tokens", "verify", out / "tokens/train", "--full")
        assert done.exit_code == 0, done.output

    assert_no_fault(Trial("extraction", odd_set(root / "pairs/train"), use), tmp_path, 30)


def test_records_of_finished_shards(root: Path, tmp_path: Path) -> None:
    """Whatever a record of an earlier run says, the set becomes the same."""
    tokens = {**content(root / "tokens/train")}
    ledger = content(root / "tokens/rows/train")
    rows = {f"rows/{name}": text for name, text in ledger.items()}
    records = [name for name in rows if name.endswith(".json")]

    def make(rng: Random) -> Files:
        name = rng.choice(records)
        record, _, digest = rows[name].partition(b"\n")
        return {**tokens, **rows, name: odd_json(record, rng) + b"\n" + digest}

    def use(given: Path, out: Path) -> None:
        work = out / "tokens"
        for name in (*tokens, *rows):
            (work / name).parent.mkdir(parents=True, exist_ok=True)
            (work / name).write_bytes((given / name).read_bytes())
        pairs, tokenizer = root / "pairs/train", root / "tokenizer"
        made = extract_set(pairs, tokenizer, work, SETTINGS, executor="serial", workers=1)
        assert made == Manifest.load(root / "tokens/train")

    assert_no_fault(Trial("records", make, use), tmp_path, 30)


def test_the_list_of_sets(root: Path, tmp_path: Path) -> None:
    text = pair_sets_text([Manifest.load(root / "pairs/train")]).encode()

    def use(given: Path, out: Path) -> None:
        assert listed_pair_set(given, "train").size >= 1

    assert_no_fault(
        Trial("sets", lambda rng: {"sets.json": odd_json(text, rng)}, use), tmp_path, 300
    )
