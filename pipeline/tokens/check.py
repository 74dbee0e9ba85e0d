"""Checks that a token data set belongs to a tokenizer and to pairs, and counts its codes."""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.pairs.index import PairSet, listed_pair_set
from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Location
from tvqrap.pretrained.folder import read_config
from tvqrap.runtime.errors import UserError


def code_statistics(counts: np.ndarray) -> dict[str, Any]:
    """Share of codes in use, entropy in nats and perplexity of a code histogram."""
    share = counts / max(1, counts.sum())
    used = share[share > 0]
    entropy = float(-(used * np.log(used)).sum())
    return {
        "codes_used": round(float((counts > 0).mean()), 6),
        "code_entropy": round(entropy, 6),
        "code_perplexity": round(float(np.exp(entropy)), 3),
    }


def check_tokens(
    tokens: Location,
    tokenizer: Path,
    pairs: Location | None = None,
    *,
    pairs_listed_in: Location | None = None,
) -> Manifest:
    """The manifest of a token data set that the tokenizer in the folder `tokenizer` made.

    Its pairs have to be those in the folder `pairs`, or those of its name that `sets.json` in
    `pairs_listed_in` lists. Raises `UserError` that names both sides for other pairs, for another
    tokenizer, codebook or schema, and for a set of pairs.
    """
    manifest = Manifest.load(tokens)
    if manifest.kind != "tokens":
        raise UserError(f"{tokens}: holds {manifest.kind}, expected tokens")
    config = read_config(tokenizer)
    found, codebook = (manifest.extra.get(key) for key in ("tokenizer", "architecture"))
    entries = (codebook or {}).get("codebook")
    if entries != config.architecture.codebook:
        raise UserError(
            f"{tokens}: holds codes of a codebook of {entries}, but that of {tokenizer} has "
            f"{config.architecture.codebook} entries: extract the tokens again"
        )
    if found != config.fingerprint:
        raise UserError(
            f"{tokens}: made by tokenizer {str(found)[:12]}, but {tokenizer} is "
            f"{config.fingerprint[:12]}: extract the tokens again"
        )
    if pairs is not None:
        _check_origin(tokens, manifest, pairs, PairSet.of(Manifest.load(pairs)))
    if pairs_listed_in is not None:
        expected = listed_pair_set(pairs_listed_in, manifest.set)
        _check_origin(tokens, manifest, pairs_listed_in / manifest.set, expected)
    return manifest


def _check_origin(tokens: Location, manifest: Manifest, pairs: Location, expected: PairSet) -> None:
    size = manifest.crop_size
    if size != expected.size:
        raise UserError(
            f"{tokens}: made from crops of {size}x{size}, but {pairs} holds crops of "
            f"{expected.size}x{expected.size}: extract the tokens again"
        )
    if (made_from := manifest.extra.get("pairs", "unknown")) != expected.root:
        raise UserError(
            f"{tokens}: made from pairs {made_from[:12]}, but {pairs} is {expected.root[:12]}: "
            "extract the tokens again"
        )
