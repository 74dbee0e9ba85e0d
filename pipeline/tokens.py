"""Token data sets: ground-truth structure and codes of every HR crop, extracted once.

What a reader of one needs; `pipeline/token_extraction.py` makes them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from pipeline.shards import Manifest
from pipeline.storage import Location
from tvqrap.errors import UserError
from tvqrap.model_folder import read_card


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


def check_tokens(tokens: Location, tokenizer: Path, pairs: Location | None = None) -> Manifest:
    """The manifest of a token dataset.

    Raises `UserError` where another tokenizer made it, or (with `pairs`) from other pairs.
    """
    manifest = Manifest.load(tokens)
    card = read_card(tokenizer)
    found = manifest.extra.get("tokenizer")
    if manifest.kind != "tokens" or found != card.fingerprint:
        raise UserError(
            f"{tokens}: made by tokenizer {str(found)[:12]}, but {tokenizer} is "
            f"{card.fingerprint[:12]}: extract the tokens again"
        )
    if pairs is not None:
        made_from, given = manifest.extra["pairs"], Manifest.load(pairs).root
        if made_from != given:
            raise UserError(
                f"{tokens}: made from pairs {made_from[:12]}, but {pairs} is {given[:12]}: extract "
                "the tokens again"
            )
    return manifest
