"""The stage that scores the test set."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.shards.manifest import Manifest
from pipeline.tokens.extract import extract_set
from stages.evaluate import evaluate
from stages.experiments import reconstruction
from stages.params import load_params
from stages.runner.stage import Stage
from tests.support.paths import ROOT
from tests.support.tokens import SETTINGS, SMALL, make_material, with_changes
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage in a checkout whose second test sample has a structure that no float16 holds."""
    pairs, tokenizer = make_material(tmp_path, count=3)
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "dvc.yaml", ".")
    shutil.copytree(tokenizer, "models/tokenizer")
    shutil.copytree(pairs, "data/pairs/test")
    without = with_changes(
        pairs,
        tmp_path / "fewer/train",
        lambda number, sample: replace(sample, members={"json": b"{}"}) if number == 1 else sample,
    )
    extract_set(
        without, Path("models/tokenizer"), tmp_path / "made", SETTINGS, executor="serial", workers=1
    )
    tokens = Manifest.load(tmp_path / "made/train")
    shutil.copytree(tmp_path / "made/train", "data/tokens/test")
    root = Manifest.load(Path("data/pairs/test")).root
    replace(tokens, extra={**tokens.extra, "pairs": root}).save(Path("data/tokens/test"))
    torch.manual_seed(0)
    for name in ("predictor", "rap"):
        save_model(Path("models") / name, "upscaler", UpscalerNetwork(SMALL), SMALL, {})
    params = load_params(ROOT / "params.yaml")
    fewer = params.evaluation.model_copy(update={"metrics": ("psnr_y", "grid")})
    params = params.model_copy(update={"evaluation": fewer})
    return Stage("evaluate", params, "fingerprint", tmp_path / ".scratch/stage-01")


def test_samples_without_tokens_are_noted_and_not_scored(
    stage: Stage, capsys: pytest.CaptureFixture[str]
) -> None:
    evaluate(stage)
    scores = json.loads(Path("evaluation/scores.json").read_text())
    keys = [sample["key"] for sample in Manifest.load(Path("data/tokens/test")).extra["dropped"]]
    (key,) = keys
    (note,) = scores["notes"]
    assert note.startswith(f"{key}: not scored, without tokens: ")
    assert note in capsys.readouterr().out
    rows = Path("evaluation/per_image.csv").read_text()
    assert key not in rows and len(rows.splitlines()) == 1 + 2 * 4


def test_other_files_beside_the_scores_stay(stage: Stage) -> None:
    mine = Path("evaluation/mine/notes.md")
    mine.parent.mkdir(parents=True)
    mine.write_text("notes")
    Path("evaluation/curves").mkdir()
    Path("evaluation/curves/old.tsv").write_text("")
    evaluate(stage)
    assert mine.read_text() == "notes"
    assert not Path("evaluation/curves/old.tsv").exists()
    assert Path("evaluation/metrics.json").is_file()


def test_the_tokenizers_row_is_that_of_its_reconstruction_alone(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(stage)
    monkeypatch.setattr(reconstruction, "load_params", lambda: stage.params)
    reconstruction.score_reconstruction(tmp_path / "alone")
    rows = [line.split(",") for line in Path("evaluation/per_image.csv").read_text().splitlines()]
    alone = (tmp_path / "alone/per_image.csv").read_text().splitlines()
    expected = [",".join(row) for row in rows if row[0] == "tokenizer"]
    # Without tokens of its own, one image more is scored.
    assert len(alone) == 1 + len(expected) + 1
    found = {line.split(",")[2]: line.split(",") for line in alone}
    for line in expected:
        model, image, photo, *scores = line.split(",")[:5]
        assert found[photo][:2] == [model, image]
        # Tokens hold the structure as float16; this reconstruction never leaves float32.
        assert [float(score) for score in found[photo][3:5]] == pytest.approx(
            [float(score) for score in scores], rel=1e-2
        )
    assert not (tmp_path / "alone/unfinished").exists()
