"""Tokenizers on the way of one training: real trainings of the tiny profile."""

import json
import shutil
import sys
from pathlib import Path

import pytest

from stages.experiments.milestones import export_milestones, training_of
from stages.experiments.results import EXPERIMENTS, RESULTS, SCORES
from stages.runner.stage import FINISHED
from tests.support.checkout import make_checkout
from tests.support.experiments import SMALL
from tvqrap.pretrained.folder import read_config

POINTS = ["--points", "wide,narrow", "--seeds", "1"]


@pytest.mark.slow
def test_tokenizers_on_the_way_are_scored_whatever_is_left_of_the_training(tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    text = SMALL.replace("title", "milestones: 2\ntitle", 1)
    (tmp_path / "way.yaml").write_text(text.replace("stlpips_vgg]", "structure_share]"))
    command = [sys.executable, "-m", "stages.experiments", "run", "way.yaml", *POINTS]
    checkout.run(*command)
    first = scores(tmp_path)
    assert len(first) == 2
    for rows in first:
        assert list(rows) == ["tokenizer", "tokenizer-5"]
        assert rows["tokenizer"]["psnr_y"] != rows["tokenizer-5"]["psnr_y"]
    shares = [rows["tokenizer-5"].get("structure_share") for rows in first]
    assert shares.count(None) == 1, "that of the point without structure"

    # The training of a model is found by its weights, among those of other points.
    copy = tmp_path / EXPERIMENTS / "way"
    found = training_of(copy, copy / "models/tokenizer")
    assert found is not None and found.steps == [5, 10]
    assert len(list((copy / FINISHED).glob("train_tokenizer-*"))) == 2
    early, late = export_milestones(found, [5, 10], tmp_path / "out")
    wanted = read_config(copy / "models/tokenizer").fingerprint
    assert read_config(late).fingerprint == wanted != read_config(early).fingerprint

    # DVC's cache restores the trainings' models; the milestones are still there, and then not.
    for lost in ((), (FINISHED,)):
        shutil.rmtree(tmp_path / RESULTS)
        for folder in lost:
            shutil.rmtree(copy / folder)
        checkout.run(*command)
        assert scores(tmp_path) == first
    log = (tmp_path / EXPERIMENTS / "way.log").read_text()
    assert log.count("Running stage 'train_tokenizer'") == 4
    table = checkout.run(sys.executable, "-m", "stages.experiments", "collect", "way.yaml").stdout
    assert "On the way of each training:" in table


def scores(root: Path) -> list[dict[str, dict[str, float]]]:
    """By point: means by row and column."""
    found = []
    for path in sorted(root.glob(f"{RESULTS}/*/{SCORES}")):
        document = json.loads(path.read_text())
        found.append(
            {
                row: {column: interval["mean"] for column, interval in columns.items()}
                | document["totals"][row]
                for row, columns in document["scores"].items()
            }
        )
    return found
