"""Stage 1 with weights that it starts from."""

import shutil
from pathlib import Path

import pytest

from stages.params import Params, load_params
from stages.runner.stage import Stage
from stages.train_tokenizer import train_tokenizer
from tests.support.paths import ROOT
from tests.support.tokens import SMALL, make_material
from tvqrap.runtime.errors import UsageError
from tvqrap.training.distributed import ALONE


def params_with(**changes: object) -> Params:
    """The default ones, of the material's network."""
    small = {"width": 0.0625, "codebook": 16, "init": "given"}
    return load_params(ROOT / "params.yaml").model_copy(update={**small, **changes})


def test_another_codebook_that_kmeans_could_not_fill_is_refused_before_any_step(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Crops of 64x64 hold 256 codes: 16 batches of 4 have 16384."""
    pairs, tokenizer = make_material(tmp_path, SMALL.of_tokenizer)
    monkeypatch.chdir(tmp_path)
    shutil.copytree(pairs, "data/pairs/train")
    shutil.copytree(tokenizer, "given/tokenizer")
    params = params_with(codebook=16385)
    stage = Stage("train_tokenizer", params, "fingerprint", Path(".scratch/stage"))
    with pytest.raises(UsageError, match=r"^codebook is 16385; allowed .* 16384") as caught:
        train_tokenizer(stage, ALONE)
    assert "given/tokenizer" in str(caught.value)
    assert not Path(".scratch").exists()
