"""What readers of a token data set rely on: that it is what it is taken for."""

import json
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.pairs.index import SETS, pair_sets_text
from pipeline.shards.manifest import Manifest
from pipeline.tokens.check import check_tokens, code_statistics
from pipeline.tokens.extract import extract_set
from tests.support.tokens import SETTINGS, SMALL, make_material
from tvqrap.architecture import Architecture
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import save_model
from tvqrap.runtime.errors import UserError


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pairs/train and the list of it, tokenizer and tokens/train."""
    root = tmp_path_factory.mktemp("tokens")
    pairs, tokenizer = make_material(root)
    (root / "pairs" / SETS).write_text(pair_sets_text([Manifest.load(pairs)]))
    extract_set(pairs, tokenizer, root / "tokens", SETTINGS, executor="serial", workers=1)
    return root


def refusal(*given: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        check_tokens(*given, **options)
    return str(caught.value)


def other_tokenizer(folder: Path, architecture: Architecture) -> str:
    torch.manual_seed(1)
    made = Tokenizer(architecture)
    return save_model(folder, "tokenizer", made, architecture, {}).fingerprint


def test_tokens_are_taken_with_what_they_were_made_from(root: Path) -> None:
    manifest = Manifest.load(root / "tokens/train")
    given = root / "tokens/train", root / "tokenizer"
    assert check_tokens(*given) == manifest
    assert check_tokens(*given, root / "pairs/train") == manifest
    assert check_tokens(*given, pairs_listed_in=root / "pairs") == manifest


def test_tokens_of_another_tokenizer_are_refused(root: Path, tmp_path: Path) -> None:
    other = other_tokenizer(tmp_path, SMALL)
    made_by = Manifest.load(root / "tokens/train").extra["tokenizer"]
    assert refusal(root / "tokens/train", tmp_path) == (
        f"{root}/tokens/train: made by tokenizer {made_by[:12]}, but {tmp_path} is {other[:12]}: "
        "extract the tokens again"
    )


def test_tokens_of_another_codebook_are_refused(root: Path, tmp_path: Path) -> None:
    other_tokenizer(tmp_path, replace(SMALL, codebook=32))
    assert refusal(root / "tokens/train", tmp_path) == (
        f"{root}/tokens/train: holds codes of a codebook of 16, but that of {tmp_path} has 32 "
        "entries: extract the tokens again"
    )


def changed(folder: Path, out: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    content = json.loads((folder / "manifest.json").read_text())
    change(content)
    out.mkdir(parents=True)
    (out / "manifest.json").write_text(json.dumps(content))
    return out


def test_tokens_of_another_schema_are_refused(root: Path, tmp_path: Path) -> None:
    tokenizer = root / "tokenizer"
    newer = changed(root / "tokens/train", tmp_path / "new", lambda found: found.update(schema=4))
    said = f"{newer}/manifest.json: found schema 4, expected 3: a newer version made the set"
    assert refusal(newer, tokenizer) == said
    older = changed(root / "tokens/train", tmp_path / "old", lambda found: found.update(schema=1))
    said = f"{older}/manifest.json: found schema 1, expected 3: make the set again"
    assert refusal(older, tokenizer) == said


def test_pairs_in_place_of_tokens_are_refused(root: Path) -> None:
    expected = f"{root}/pairs/train: holds pairs, expected tokens"
    assert refusal(root / "pairs/train", root / "tokenizer") == expected


@pytest.mark.parametrize("listed", [True, False])
def test_tokens_of_other_pairs_are_refused(listed: bool, root: Path, tmp_path: Path) -> None:
    """With the pairs' manifest, and where no more than the list of the sets is at hand."""

    def refused(change: Callable[[dict[str, Any]], None]) -> str:
        pairs = tmp_path / str(len(list(tmp_path.iterdir()))) / "train"
        changed(root / "pairs/train", pairs, change)
        given = root / "tokens/train", root / "tokenizer"
        if not listed:
            return refusal(*given, pairs).replace(str(pairs), "PAIRS")
        (pairs.parent / SETS).write_text(pair_sets_text([Manifest.load(pairs)]))
        (pairs / "manifest.json").unlink()
        return refusal(*given, pairs_listed_in=pairs.parent).replace(str(pairs), "PAIRS")

    def another_crop(found: dict[str, Any]) -> None:
        found["params"]["settings"]["size"] = 128

    def another_shard_less(found: dict[str, Any]) -> None:
        found["samples"] -= found["shards"].pop()["samples"]
        rows = (f"{row['name']} {row['sha256']}\n" for row in found["shards"])
        other.append(sha256("".join(rows).encode()).hexdigest())
        found["root"] = other[0]

    other: list[str] = []
    tokens = f"{root}/tokens/train"
    assert refused(another_crop) == (
        f"{tokens}: made from crops of 64x64, but PAIRS holds crops of 128x128: extract the tokens "
        "again"
    )
    made_from = Manifest.load(root / "pairs/train").root
    assert refused(another_shard_less) == (
        f"{tokens}: made from pairs {made_from[:12]}, but PAIRS is {other[0][:12]}: extract the "
        "tokens again"
    )


def test_a_list_of_sets_without_this_one_is_refused_in_one_line(root: Path, tmp_path: Path) -> None:
    given = root / "tokens/train", root / "tokenizer"
    assert "sets.json: not found, expected the list" in refusal(*given, pairs_listed_in=tmp_path)
    (tmp_path / SETS).write_text("{}")
    said = refusal(*given, pairs_listed_in=tmp_path)
    assert said == f"{tmp_path}/sets.json: found no set called train"
    for text in ("[", '{"train": {"root": "0"}}', '{"../x": {}}', '{"train":' + "[" * 100_000):
        (tmp_path / SETS).write_text(text)
        said = refusal(*given, pairs_listed_in=tmp_path)
        assert said.startswith(f"{tmp_path}/sets.json: not a list of sets of pairs")
        assert len(said) < 500 and "\n" not in said


def test_code_statistics_of_known_histograms() -> None:
    even = code_statistics(np.array([5, 5, 5, 5]))
    assert even == {"codes_used": 1.0, "code_entropy": 1.386294, "code_perplexity": 4.0}
    one = code_statistics(np.array([7, 0, 0, 0]))
    assert one == {"codes_used": 0.25, "code_entropy": 0.0, "code_perplexity": 1.0}
