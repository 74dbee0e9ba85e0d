"""What readers of a token data set rely on."""

from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.token_extraction import extract_set
from pipeline.tokens import check_tokens, code_statistics
from tests.pipeline.token_material import SETTINGS, SMALL, make_material
from tvqrap.errors import UserError
from tvqrap.model_folder import save_model
from tvqrap.tokenizer import Tokenizer


def test_tokens_of_another_tokenizer_are_refused(tmp_path: Path) -> None:
    pairs, tokenizer = make_material(tmp_path)
    manifest = extract_set(pairs, tokenizer, tmp_path / "tokens", SETTINGS, place="here", workers=1)
    assert check_tokens(tmp_path / "tokens/train", tokenizer) == manifest
    torch.manual_seed(1)
    other = save_model(tmp_path / "other", "tokenizer", Tokenizer(SMALL), SMALL, {})
    with pytest.raises(UserError) as caught:
        check_tokens(tmp_path / "tokens/train", tmp_path / "other")
    assert other.fingerprint[:12] in str(caught.value)
    assert manifest.extra["tokenizer"][:12] in str(caught.value)


def test_code_statistics_of_known_histograms() -> None:
    even = code_statistics(np.array([5, 5, 5, 5]))
    assert even == {"codes_used": 1.0, "code_entropy": 1.386294, "code_perplexity": 4.0}
    one = code_statistics(np.array([7, 0, 0, 0]))
    assert one == {"codes_used": 0.25, "code_entropy": 0.0, "code_perplexity": 1.0}
