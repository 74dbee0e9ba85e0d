"""All stages with the real dvc, Ray and shards, in a copy of the project."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pipeline.inspection.verify import verify_shards
from pipeline.shards.manifest import Manifest
from tests.support.checkout import STAGES, Checkout, make_checkout
from tests.support.fuzzing import FACTOR
from tvqrap.pretrained.folder import read_config
from tvqrap.upscaling.upscaler import Upscaler

ENDINGS = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT)


@pytest.fixture(scope="module")
def default_run(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout after its first `dvc repro`, whose stages used their own executors."""
    checkout = make_checkout(tmp_path_factory.mktemp("default"), executor="")
    done = checkout.dvc("repro")
    assert checkout.stages_run(done) == STAGES
    checkout.commit("default run")
    tracked = checkout.run("git", "ls-files", "dvc.lock", "evaluation").stdout.split()
    assert tracked == ["dvc.lock", "evaluation/metrics.json"]
    return Checkout(checkout.root)


def test_it_ends_with_models_scores_and_a_picture(default_run: Checkout) -> None:
    for name, kind in (("tokenizer", "tokenizer"), ("predictor", "upscaler"), ("rap", "upscaler")):
        assert read_config(default_run.root / "models" / name).kind == kind
    metrics = json.loads((default_run.root / "evaluation/metrics.json").read_text())
    assert list(metrics) == ["bicubic", "tokenizer", "predictor", "rap"]
    for column in ("psnr_y", "ssim_y", "fsim", "stlpips_vgg", "stlpips_alex", "piqe", "grid"):
        assert all(isinstance(row[column], float) for row in metrics.values()), column
    assert {len(row) for row in metrics.values()} == {7}
    scores = json.loads((default_run.root / "evaluation/scores.json").read_text())
    assert scores["scores"]["rap"]["code_accuracy"]["mean"] >= 0
    assert scores["totals"]["tokenizer"]["code_usage"] > 0
    curve = (default_run.root / "evaluation/curves/fsim.tsv").read_text()
    assert curve.startswith("percent\tbicubic\ttokenizer\tpredictor\trap\n0\t")
    assert (default_run.root / "evaluation/pictures/sheet.png").stat().st_size > 1000
    timing = json.loads((default_run.root / "evaluation/timing.json").read_text())
    assert timing["rap"]["parameters"] > 0 and timing["rap"]["seconds_per_image"] > 0


def test_the_upscaled_photograph_is_four_times_as_large(
    default_run: Checkout, tmp_path: Path
) -> None:
    from PIL import Image

    photo = Image.open(default_run.root / "data/photos/chelsea.jpg").resize((37, 23))
    photo.save(tmp_path / "small.png")
    cli = str(Path(sys.executable).parent / "tvqrap-cli")
    default_run.run(cli, "upscale", str(tmp_path / "small.png"), "-o", str(tmp_path / "large.png"))
    assert Image.open(tmp_path / "large.png").size == (148, 92)
    upscaled = Upscaler.from_pretrained(default_run.root / "models/rap")(photo)
    expected, written = (
        np.asarray(image, dtype=int) for image in (upscaled, Image.open(tmp_path / "large.png"))
    )
    # Other tests leave this process with another number of threads, which changes last bits.
    assert np.abs(expected - written).max() <= 1


def test_shards_are_sound_and_tokens_belong_to_their_pairs(default_run: Checkout) -> None:
    for name in ("train", "val", "test"):
        pairs, tokens = (
            default_run.root / "data/pairs" / name,
            default_run.root / "data/tokens" / name,
        )
        assert verify_shards(pairs, hashes=True) == []
        assert verify_shards(tokens, hashes=True) == []
        assert Manifest.load(tokens).extra["pairs"] == Manifest.load(pairs).root
        assert not list(pairs.glob(".*")) and not list(tokens.glob(".*"))


def test_a_second_repro_runs_nothing(default_run: Checkout) -> None:
    done = default_run.dvc("repro")
    assert default_run.stages_run(done) == []
    assert "up to date" in done.stdout


def test_dvc_shows_metrics_and_plots(default_run: Checkout) -> None:
    shown = default_run.dvc("metrics", "show").stdout
    assert "rap.fsim" in shown
    default_run.dvc("plots", "show", "-o", "plots")
    page = (default_run.root / "plots/index.html").read_text()
    assert "Predictor cross-entropy" in page and "Tokenizer losses" in page
    shutil.rmtree(default_run.root / "plots")


def test_a_wrong_param_stops_dvc_with_one_line(default_run: Checkout) -> None:
    params = default_run.root / "params.yaml"
    text = params.read_text()
    try:
        params.write_text(text.replace("  steps: 10", "  steps: ten", 1))
        done = default_run.dvc("repro", check=False)
        assert done.returncode != 0
        said = done.stdout + done.stderr
        assert "train_tokenizer: params.yaml: tokenizer.steps: found 'ten'" in said
        assert "Traceback" not in said
    finally:
        params.write_text(text)


@pytest.mark.slow
def test_experiments_rerun_what_depends_on_the_param(default_run: Checkout) -> None:
    done = default_run.dvc("exp", "run", "-S", "codebook=16", "-n", "fewer-codes")
    assert default_run.stages_run(done) == STAGES[1:]
    assert read_config(default_run.root / "models/tokenizer").architecture.codebook == 16
    assert "fewer-codes" in default_run.dvc("exp", "show", "--csv").stdout
    (compared,) = json.loads(default_run.dvc("metrics", "diff", "--json").stdout).values()
    assert compared["tokenizer.fsim"]["old"] > 0 and compared["tokenizer.fsim"]["new"] > 0
    default_run.run("git", "checkout", "-q", ".")
    default_run.dvc("checkout")
    done = default_run.dvc("exp", "run", "-S", "rap.steps=4")
    assert default_run.stages_run(done) == STAGES[4:]
    default_run.run("git", "checkout", "-q", ".")
    default_run.dvc("checkout")
    assert default_run.stages_run(default_run.dvc("repro")) == []


@pytest.mark.slow
def test_a_fresh_clone_experiments_with_one_stage(default_run: Checkout, tmp_path: Path) -> None:
    """The clone has dvc.lock, but none of the outputs that it lists."""
    default_run.run("git", "clone", "-q", str(default_run.root), str(tmp_path / "clone"))
    clone = Checkout(tmp_path / "clone")
    done = clone.dvc("exp", "run", "-S", "pairs.sets.val.count=4", "make_pairs")
    assert clone.stages_run(done) == ["make_pairs"]


@pytest.mark.slow
def test_a_temporary_copy_runs_its_own_code(default_run: Checkout) -> None:
    """`exp run --temp` has no virtual environment in its copy and must not import this tree."""
    before = (default_run.root / "evaluation/metrics.json").read_text()
    done = default_run.dvc("exp", "run", "--temp", "-S", "rap.steps=5", "-n", "aside")
    assert default_run.stages_run(done) == STAGES[4:]
    assert (default_run.root / "evaluation/metrics.json").read_text() == before
    assert "aside" in default_run.dvc("exp", "show", "--csv").stdout


@pytest.mark.slow
@pytest.mark.parametrize("first", range(3)[: max(1, round(3 * FACTOR))])
def test_interrupted_it_goes_on_to_the_same_bytes(
    default_run: Checkout, tmp_path: Path, first: int
) -> None:
    """dvc is ended in the middle of three stages, each time by another signal; it goes on."""
    checkout = make_checkout(tmp_path, executor="")
    wait_for = [
        ".scratch/make_pairs-*/rows/train/*.json",
        ".scratch/train_tokenizer-*/step-*.pt",
        ".scratch/train_predictor-*/step-*.pt",
    ]
    for pattern, ending in zip(wait_for, ENDINGS[first:] + ENDINGS[:first], strict=True):
        process = subprocess.Popen(
            [str(Path(sys.executable).parent / "dvc"), "repro"],
            cwd=checkout.root,
            env=checkout.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + 240
        while not list(checkout.root.glob(pattern)):
            assert process.poll() is None or list(checkout.root.glob(pattern)), "it ended early"
            assert time.monotonic() < deadline, pattern
            time.sleep(0.02)
        # Again until it ends: a stage that is just finishing does not stop for the first. Soon, for
        # the stage after it is not to be over before the next.
        while process.poll() is None:
            if ending == signal.SIGINT:
                os.killpg(process.pid, ending)  # as a terminal does: dvc alone ignores it
            else:
                process.send_signal(ending)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(2)
        assert process.returncode != 0
    checkout.dvc("repro", "finetune_rap")
    for folder in ("data/pairs", "data/tokens"):
        for name in ("train", "val", "test"):
            assert (
                Manifest.load(checkout.root / folder / name).root
                == Manifest.load(default_run.root / folder / name).root
            ), folder
    for name in ("tokenizer", "predictor", "rap"):
        assert (
            read_config(checkout.root / "models" / name).fingerprint
            == read_config(default_run.root / "models" / name).fingerprint
        ), name


@pytest.mark.slow
def test_every_stage_can_start_from_given_weights(default_run: Checkout, tmp_path: Path) -> None:
    checkout = make_checkout(tmp_path)
    shutil.copytree(default_run.root / "models", checkout.root / "given")
    params = checkout.root / "params.yaml"
    params.write_text(params.read_text().replace("init: models/none", "init: given"))
    checkout.dvc("repro", "finetune_rap")
    for name, source in (("tokenizer", "tokenizer"), ("predictor", "rap")):
        about = read_config(checkout.root / "models" / name).about
        assert (
            about["started_from"] == read_config(default_run.root / "models" / source).fingerprint
        )
    params.write_text(params.read_text().replace("width: 0.125", "width: 0.0625"))
    done = checkout.dvc("repro", "train_tokenizer", check=False)
    assert done.returncode != 0
    assert "given/tokenizer: Architecture(width=0.125" in done.stdout + done.stderr
