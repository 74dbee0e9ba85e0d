"""Means of upscalers."""

from pathlib import Path

import pytest
import torch
from click.testing import Result

from tests.support.commands import run
from tvqrap.architecture import Architecture
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import read_config, save_model
from tvqrap.pretrained.upscaler import load_upscaler

TINY = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three with one codebook, all else apart."""
    root = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    first = UpscalerNetwork(TINY)
    for name in "abc":
        network = UpscalerNetwork(TINY)
        network.codebook.load_state_dict(first.codebook.state_dict())
        save_model(root / name, "upscaler", network, TINY, {"steps": 1}, "soft")
    return [root / name for name in "abc"]


def average(*arguments: object) -> Result:
    return run("average", *arguments)


def test_the_mean_is_weighted(models: list[Path], tmp_path: Path) -> None:
    result = average(*models, "-o", tmp_path / "mean", "--parts", "2,1,1")
    assert result.exit_code == 0, result.output
    made = load_upscaler(tmp_path / "mean")
    assert made.assignment == "soft"
    states = [load_upscaler(model).state_dict() for model in models]
    for name, value in made.state_dict().items():
        a, b, c = (state[name].double() for state in states)
        torch.testing.assert_close(value, (a / 2 + b / 4 + c / 4).float())
    assert torch.equal(made.codebook.embedding.weight, states[0]["codebook.embedding.weight"])
    said = read_config(tmp_path / "mean").about["mean_of"]
    assert [each["part"] for each in said] == [0.5, 0.25, 0.25]
    assert [each["fingerprint"] for each in said] == [read_config(m).fingerprint for m in models]


def test_equal_parts_in_any_order(models: list[Path], tmp_path: Path) -> None:
    for name, order in (("ab", models[:2]), ("ba", models[1::-1])):
        assert average(*order, "-o", tmp_path / name).exit_code == 0
    ab, ba = (read_config(tmp_path / name).fingerprint for name in ("ab", "ba"))
    assert ab == ba
    assert average(models[0], models[0], "-o", tmp_path / "aa").exit_code == 0
    assert read_config(tmp_path / "aa").fingerprint == read_config(models[0]).fingerprint


def test_models_that_differ_are_refused(models: list[Path], tmp_path: Path) -> None:
    torch.manual_seed(1)
    save_model(tmp_path / "other", "upscaler", UpscalerNetwork(TINY), TINY, {}, "soft")
    hard = load_upscaler(models[0])
    save_model(tmp_path / "hard", "upscaler", hard, TINY, {})
    wide = Architecture(width=0.125, codebook=16, texture=4, structure=8, swin_blocks=2)
    save_model(tmp_path / "wide", "upscaler", UpscalerNetwork(wide), wide, {}, "soft")
    for name, words in (
        ("other", "another codebook"),
        ("hard", "assignment is hard"),
        ("wide", "architecture"),
        ("none", "no model there"),
    ):
        result = average(models[0], tmp_path / name, "-o", tmp_path / "mean")
        assert result.exit_code == 1 and words in result.output, result.output
        assert name in result.output and len(result.output.splitlines()) == 1
    assert not (tmp_path / "mean").exists()


def test_wrong_options_are_refused(models: list[Path], tmp_path: Path) -> None:
    out = ("-o", tmp_path / "mean")
    for arguments, words in (
        ((models[0], *out), "found 1, expected two or more"),
        ((*models, *out, "--parts", "1,2"), "expected 3 numbers"),
        ((*models[:2], *out, "--parts", "1,-1"), "sum other than 0"),
        ((*models[:2], *out, "--parts", "nan,1"), "expected 2 numbers"),
        ((*models[:2], *out, "--parts", "a,b"), "expected numbers such as 2,1"),
    ):
        result = average(*arguments)
        assert result.exit_code == 2 and words in result.output, result.output
    onto = average(*models, "-o", models[0], "--overwrite")
    assert onto.exit_code == 1 and "is one of the models" in onto.output
    assert average(*models, *out).exit_code == 0
    assert "--overwrite" in average(*models, *out).output
