"""The stage that scores the test set."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.shards.codec import decode_png
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard
from stages import evaluate as evaluate_module
from stages.evaluate import PAIRS, evaluate
from stages.experiments import reconstruction
from stages.runner.stage import Stage
from tests.support.evaluation import evaluation_stage, make_evaluation
from tvqrap.decomposition import decompose
from tvqrap.images.tensors import to_uint8
from tvqrap.pretrained.folder import load_tokenizer, save_model


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    """The stage in a checkout whose second test sample has no tokens."""
    monkeypatch.chdir(tmp_path)
    make_evaluation(tmp_path)
    return evaluation_stage(tmp_path)


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


def test_the_time_of_an_image_ends_with_its_pixels(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def slow(image: torch.Tensor) -> np.ndarray:
        time.sleep(0.3)  # as long as a GPU may still compute
        return to_uint8(image[0])

    monkeypatch.setattr(evaluate_module, "_pixels", slow)
    evaluate(stage)
    timing = json.loads(Path("evaluation/timing.json").read_text())
    for name in ("tokenizer", "predictor", "rap"):
        assert timing[name]["seconds_per_image"] >= 0.3


def test_the_tokenizers_row_is_that_of_its_reconstruction_alone(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluate(stage)
    monkeypatch.setattr(reconstruction, "load_params", lambda: stage.params)
    reconstruction.score_reconstruction(tmp_path / "alone", [Path("models/tokenizer")])
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


def test_several_tokenizers_have_a_row_each_with_the_share_of_their_structure(
    stage: Stage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reconstruction, "load_params", lambda: stage.params)
    given = load_tokenizer(Path("models/tokenizer"))
    with torch.no_grad():
        given.codebook.embedding.weight.mul_(0)
    save_model(tmp_path / "dumb", "tokenizer", given, given.architecture, {})
    reconstruction.score_reconstruction(tmp_path, [Path("models/tokenizer"), tmp_path / "dumb"])
    document = json.loads((tmp_path / "scores.json").read_text())
    scores, totals = document["scores"], document["totals"]
    assert list(scores) == ["tokenizer", "dumb"]
    shares = {}
    for name, folder in (("tokenizer", Path("models/tokenizer")), ("dumb", tmp_path / "dumb")):
        shares[name] = [
            decompose(load_tokenizer(folder), image(sample)).structure_share
            for shard in Manifest.load(PAIRS).shards
            for sample in read_shard(PAIRS / shard.name, shard.sha256)
        ]
        mean = sum(share for share in shares[name] if share is not None) / len(shares[name])
        assert totals[name]["structure_share"] == pytest.approx(mean, abs=1e-3)
    assert set(shares["dumb"]) == {1.0}
    assert scores["dumb"]["psnr_y"] != scores["tokenizer"]["psnr_y"]


def image(sample: Sample) -> Image.Image:
    return Image.fromarray(decode_png(sample.members["hr.png"]))
