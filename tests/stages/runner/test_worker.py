"""Workers of a stage: its own number, or as many of the common one as divide its batches."""

import pytest
import torch

from stages.params import Params, load_params, parse_params
from stages.profile import expanded, profile_path
from stages.runner.worker import fewer_workers_note, workers_of
from tests.support.paths import ROOT
from tvqrap.config.workers import stage_compute
from tvqrap.runtime.errors import UsageError

STAGES = ("train_tokenizer", "train_predictor", "finetune_rap")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WORLD_SIZE", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def changed(profile: str, *changes: tuple[str, str]) -> Params:
    text = expanded(profile_path(profile, ROOT))
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    return parse_params(text, profile)


@pytest.mark.parametrize(
    ("devices", "counts"), [(0, (1, 1, 1)), (1, (1, 1, 1)), (4, (4, 4, 4)), (8, (8, 4, 4))]
)
def test_the_paper_profile_runs_unchanged_on_any_number_of_gpus(
    devices: int, counts: tuple[int, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: devices)
    params = load_params(profile_path("paper", ROOT))
    assert tuple(workers_of(name, params) for name in STAGES) == counts
    note = fewer_workers_note("finetune_rap", params)
    assert (note or "").startswith("4 of 8 workers train, as batches of 4") == (devices == 8)
    assert fewer_workers_note("train_tokenizer", params) is None


def test_auto_is_the_number_that_was_started(monkeypatch: pytest.MonkeyPatch) -> None:
    params = changed("laptop", ("  workers: 1", "  workers: auto"))
    assert workers_of("train_predictor", params) == 1
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert workers_of("train_predictor", params) == 2
    monkeypatch.delenv("WORLD_SIZE")
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    with pytest.raises(UsageError, match=r"compute\.workers is auto; expected a number"):
        workers_of("train_predictor", params)


def test_a_stage_may_have_numbers_of_its_own() -> None:
    params = changed(
        "laptop",
        ("  workers: 1", "  workers: 4"),
        ("  workers:\n  # gradient", "  workers: 1\n  # gradient"),
        ("  grad_accum_steps:\n  optimiser", "  grad_accum_steps: 2\n  optimiser"),
    )
    assert [workers_of(name, params) for name in STAGES] == [1, 4, 4]
    assert stage_compute(params.tokenizer, params.compute).grad_accum_steps == 2
    assert stage_compute(params.rap, params.compute).grad_accum_steps == 1
    assert fewer_workers_note("train_tokenizer", params) is None


def test_texture_dropout_limits_the_workers() -> None:
    """Three of four crops keep their texture: no fourth worker has one."""
    params = changed("laptop", ("  workers: 1", "  workers: 4"))
    assert workers_of("train_tokenizer", params) == 2
    assert "2 of 4 workers train" in (fewer_workers_note("train_tokenizer", params) or "")
