"""Tokenizers on the way of one training."""

import json
import shutil
import sys
from pathlib import Path

import pytest
import torch

from stages.experiments.milestones import export_milestones
from stages.experiments.results import EXPERIMENTS, RESULTS, SCORES
from stages.runner.resume import NETWORK
from stages.runner.stage import FINISHED
from tests.support.checkout import make_checkout
from tests.support.experiments import SMALL
from tvqrap.architecture import Architecture
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import load_tokenizer, read_config, save_model

TINY = Architecture(0.0625, codebook=8, texture=4, structure=8)
POINTS = ["--points", "wide,narrow", "--seeds", "1"]


def network(step: int, length: int) -> Tokenizer:
    """A tokenizer whose weights tell the step and the length of its training."""
    torch.manual_seed(0)
    module = Tokenizer(TINY)
    with torch.no_grad():
        module.codebook.embedding.weight.fill_(step + length / 1000)
    return module


def keep(root: Path, name: str, length: int, steps: list[int]) -> Path:
    """Checkpoints of a finished training of `length` steps in a checkout."""
    folder = root / FINISHED / f"train_tokenizer-{name}"
    folder.mkdir(parents=True, exist_ok=True)
    save_model(folder / NETWORK, "tokenizer", network(0, length), TINY, {})
    for step in steps:
        average = {"module": network(step, length).state_dict()}
        record = {"params": {"tokenizer.steps": length}, "data": {}, "code": {}, "changes": []}
        state = {"task": {"learner": {"average": average}}, "record": record}
        torch.save(state, folder / f"step-{step:09d}.pt")
    return folder


def model(root: Path, length: int) -> Path:
    save_model(root, "tokenizer", network(length, length), TINY, {"steps": length})
    return root


def test_the_training_of_a_model_is_found_among_others(tmp_path: Path) -> None:
    wanted = model(tmp_path / "model", 8)
    here, there = tmp_path / "here", tmp_path / "there"
    out = tmp_path / "out"

    def found() -> list[float] | None:
        folders = export_milestones([here, there], wanted, [2, 4], out)
        if folders is None:
            return None
        assert [folder.name for folder in folders] == ["tokenizer-2", "tokenizer-4"]
        weights = (load_tokenizer(folder).codebook.embedding.weight for folder in folders)
        return [round(weight[0, 0].item(), 3) for weight in weights]

    assert found() is None
    keep(here, "coarse", 8, [4, 8])
    keep(here, "longer", 12, [2, 4, 8, 12])
    broken = keep(here, "broken", 8, [2, 4, 8])
    (broken / "step-000000004.pt").write_bytes(b"no checkpoint")
    gone = keep(here, "gone", 8, [2, 4, 8])
    shutil.rmtree(gone / NETWORK)
    assert found() is None
    # Trainings of two lengths share a folder: the shorter one came later, and took the place of 2.
    mixed = keep(here, "mixed", 8, [2, 4, 8])
    keep(here, "mixed", 6, [2, 6])
    assert found() is None
    keep(there, "whole", 8, [2, 4, 6, 8])
    assert found() == [2.008, 4.008]
    # A longer one came later and left these steps alone.
    shutil.rmtree(there)
    keep(here, "mixed", 8, [2, 4, 8])
    keep(here, "mixed", 12, [12])
    assert found() == [2.008, 4.008]
    assert sorted(path.name for path in mixed.glob("step-*")) == [
        f"step-0000000{step:02}.pt" for step in (2, 4, 6, 8, 12)
    ]


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
    copy = tmp_path / EXPERIMENTS / "way"
    assert len(list((copy / FINISHED).glob("train_tokenizer-*/step-*.pt"))) == 4
    # The rows are of the training that ended with the row `tokenizer`.
    last, early = read_config(copy / "models/tokenizer"), copy / ".scratch/milestones/tokenizer-5"
    assert read_config(early).fingerprint != last.fingerprint

    # DVC's cache restores the trainings' models. Their milestones are still there, then in another
    # working copy, then nowhere.
    other = copy.with_name("other")
    (other / FINISHED).parent.mkdir(parents=True)
    for change, times in (
        (None, 2),
        (lambda: (copy / FINISHED).rename(other / FINISHED), 2),
        (lambda: shutil.rmtree(other), 4),
    ):
        shutil.rmtree(tmp_path / RESULTS)
        if change is not None:
            change()
        checkout.run(*command)
        assert scores(tmp_path) == first
        log = (tmp_path / EXPERIMENTS / "way.log").read_text()
        assert log.count("Running stage 'train_tokenizer'") == times
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
