"""Missing weights of metrics and losses are one line, before anything runs."""

from pathlib import Path

import pytest

from stages.params import load_params, parse_params
from stages.profile import expanded, profile_path
from stages.runner.weights import missing_weights
from tests.support.paths import ROOT
from tvqrap.evaluation.metrics.registry import METRICS

TABLES = ("lpips", "dists", "clipiqa", "musiq", "maniqa", "niqe", "fid")
"""Metrics of Tables 1 and 2 of the paper whose weights have to be fetched."""


@pytest.fixture(autouse=True)
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TVQRAP_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "cache"))
    (tmp_path / "weights").mkdir()
    return tmp_path / "weights"


def test_the_paper_needs_those_of_its_tables_and_of_its_loss(weights: Path) -> None:
    params = load_params(profile_path("paper", ROOT))
    assert {"psnr_y", "ssim_y", *TABLES} <= set(params.evaluation.metrics)
    line = missing_weights(params)
    assert line is not None and "\n" not in line
    for name in TABLES:
        assert f"{name} needs {' and '.join(METRICS[name].weights)}" in line
    assert "needs vgg16-397923af.pth and lpips_vgg.pth; `" in line
    assert f"`tvqrap-cli metrics --fetch {' '.join(TABLES)}`" in line
    (weights / "niqe_modelparameters.mat").touch()
    (weights / "lpips_vgg.pth").touch()
    line = missing_weights(params)
    assert line is not None and "niqe" not in line and "lpips_vgg.pth" not in line
    (weights / "musiq_koniq_ckpt-e95806b9.pth").write_text("half of a download")
    line = missing_weights(params)
    assert line is not None and "musiq_koniq_ckpt-e95806b9.pth: SHA-256 is" in line


@pytest.mark.parametrize("profile", ["laptop", "small", "smoke", "ablation"])
def test_other_profiles_need_none(profile: str) -> None:
    assert missing_weights(load_params(profile_path(profile, ROOT))) is None


def test_a_loss_that_is_not_used_needs_none() -> None:
    text = expanded(profile_path("laptop", ROOT)).replace("stlpips_vgg\n      weight: 1.0", "CUT")
    used = parse_params(text.replace("CUT", "lpips_vgg\n      weight: 1.0"), "text")
    unused = parse_params(text.replace("CUT", "lpips_vgg\n      weight: 0.0"), "text")
    assert "tokenizer.image.perceptual.network and rap" in (missing_weights(used) or "")
    assert missing_weights(unused) is None
