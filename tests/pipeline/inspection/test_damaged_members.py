"""Token sets whose shards are whole and whose members are not: one line that names the sample."""

import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.executor.outcome import Failure
from pipeline.inspection.diff import token_difference
from pipeline.inspection.margins import margins
from pipeline.inspection.preview import token_sheet
from pipeline.inspection.reencode import another_machine, reencode
from pipeline.inspection.sampling import TokenSample
from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.shards.codec import encode_array
from pipeline.tokens import statistics
from pipeline.tokens.extract import extract_set
from pipeline.tokens.statistics import token_statistics
from tests.support.commands import run
from tests.support.tokens import SETTINGS, make_material, with_member
from tvqrap.runtime.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("sets")
    pairs, tokenizer = make_material(root, count=2, shard_size=2)
    extract_set(pairs, tokenizer, root / "tokens", SETTINGS, executor="serial", workers=1)
    return root


@pytest.mark.parametrize(
    ("name", "payload"),
    [
        ("codes.npy", None),
        ("codes.npy", b"\x93NUMPY"),
        ("codes.npy", encode_array(np.zeros((16, 16), np.float16))),
        ("codes.npy", encode_array(np.full((16, 16), 16, np.uint16))),
        ("structure.npy", None),
        ("structure.npy", encode_array(np.zeros((4, 8, 8), np.float64))),
        ("structure.npy", encode_array(np.zeros((4, 2, 2), np.float16))),
    ],
)
def test_the_sample_is_named(root: Path, tmp_path: Path, name: str, payload: bytes | None) -> None:
    folder, key = with_member(root / "tokens/train", tmp_path / "train", name, payload)
    pairs, tokenizer = root / "pairs/train", root / "tokenizer"

    def load() -> None:
        sets = ShardedDataset.open(folder)
        Loader(sets, MemberSelection(tokens=True), seed=0, batch_size=2).all()

    readers = [
        load,
        lambda: token_sheet(folder, pairs, tokenizer, [key]),
        lambda: token_difference(folder, root / "tokens/train"),
        lambda: reencode(TokenSample.draw(folder, pairs, tokenizer, 2, 0)),
    ]
    if name == "codes.npy":
        readers.append(lambda: token_statistics(folder))
    refused = 0
    for read in readers:
        try:
            read()
        except UserError as error:
            refused += 1
            assert key in str(error) and "\n" not in str(error)
    assert refused >= 2, "those that only compare may say that the sample differs"


def test_a_worker_that_dies_is_said_with_its_shard(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    died = [Failure(0, "worker died (exit code -9)", "")]
    monkeypatch.setattr(statistics, "run_tasks", lambda *given, **options: died)
    with pytest.raises(UserError, match=r"train/000000\.tar: worker died \(exit code -9\)$"):
        token_statistics(root / "tokens/train")


def rewritten(source: Path, out: Path, **changes: object) -> Path:
    """A copy of a set of shards that lie with it, whose manifest has other values of `extra`."""
    with_member(source, out, "json", b"{}")
    document = json.loads((out / "manifest.json").read_text())
    document["extra"] |= changes
    (out / "manifest.json").write_text(json.dumps(document))
    return out


def test_a_manifest_without_codebook_is_refused(root: Path, tmp_path: Path) -> None:
    folder = rewritten(root / "tokens/train", tmp_path / "train", architecture={"codebook": {}})
    for read in (token_statistics, ShardedDataset.open):
        with pytest.raises(UserError, match=r"extra\.architecture\.codebook"):
            read(folder)


def test_an_odd_machine_is_refused(root: Path, tmp_path: Path) -> None:
    folder = rewritten(root / "tokens/train", tmp_path / "train", machine={"torch": 5})
    drawn = TokenSample.draw(folder, root / "pairs/train", root / "tokenizer", 1, 0)
    with pytest.raises(UserError, match="expected device and torch"):
        another_machine(drawn)
    assert margins(drawn).samples == 1


@pytest.mark.parametrize("more", [[], ["--json"]])
def test_names_reach_the_terminal_without_control_characters(
    root: Path, tmp_path: Path, more: list[str]
) -> None:
    folder = rewritten(root / "tokens/train", tmp_path / "train", **{"\x1b[2J\x7f": "\u202e"})
    done = run("tokens", "inspect", folder, *more)
    assert done.exit_code == 0
    assert not {"\x1b", "\x7f", "\u202e"} & set(done.output)


def test_settings_that_are_no_mapping_are_refused(root: Path, tmp_path: Path) -> None:
    folder = rewritten(root / "tokens/train", tmp_path / "train")
    document = json.loads((folder / "manifest.json").read_text())
    document["params"]["settings"] = None
    (folder / "manifest.json").write_text(json.dumps(document))
    done = run("tokens", "inspect", folder)
    assert done.exit_code == 1 and "settings" in done.output
