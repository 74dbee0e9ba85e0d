"""`tvqrap-cli pairs imagenet-test`, from the outside."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import stages.params
from pipeline.config import PairsSettings
from tests.support.commands import run
from tests.support.pairs import PAIRS, data_settings, texture


def save(path: Path, pixels: np.ndarray) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return path


def test_it_needs_no_params_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TVQRAP_WORKERS", "1")
    save(tmp_path / "photos" / "one.png", texture(1, 200, 150))
    result = run("pairs", "imagenet-test", "photos", "-o", "set", "--size", "64")
    assert result.exit_code == 0, result.output
    assert Image.open("set/lq/one.png").size == (16, 16)


def test_pairs_by_the_recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = data_settings("unused", min_side=32, max_pixels=10**6, max_skipped_fraction=0.0)
    params = SimpleNamespace(data=data, pairs=PairsSettings.model_validate(PAIRS))
    monkeypatch.setattr(stages.params, "load_params", lambda path: params)
    monkeypatch.setenv("TVQRAP_WORKERS", "1")
    photos = tmp_path / "photos"
    photo = texture(1, 200, 150)
    save(photos / "high.png", photo)
    save(photos / "wide.png", texture(2, 100, 160))
    (photos / "bad.jpg").write_bytes(b"bad")
    out = tmp_path / "set"
    arguments = [photos, "-o", out, "--size", "64", "--degradation", "train"]
    result = run("pairs", "imagenet-test", *arguments)
    assert result.exit_code == 1 and "bad.jpg: not an image" in result.output
    assert "2 pairs" in result.output
    short = Image.fromarray(photo).resize((64, 85), Image.Resampling.BICUBIC)
    expected = np.asarray(short)[10 : 10 + 64]
    assert np.array_equal(np.asarray(Image.open(out / "gt" / "high.png")), expected)
    assert Image.open(out / "lq" / "wide.png").size == (16, 16)
    about = json.loads((out / "test-set.json").read_text())
    assert list(about["images"]) == ["high", "wide"] and len(about["skipped"]) == 1
    assert "--overwrite" in run("pairs", "imagenet-test", *arguments).output
    (photos / "bad.jpg").unlink()
    before = (out / "lq" / "high.png").read_bytes()
    again = run("pairs", "imagenet-test", *arguments, "--overwrite")
    assert again.exit_code == 0, again.output
    assert (out / "lq" / "high.png").read_bytes() == before
    few = run("pairs", "imagenet-test", *arguments, "--count", "3", "--overwrite")
    assert few.exit_code == 1 and "expected at least 3" in few.output
    assert (out / "lq" / "high.png").is_file()
    done = run(
        "evaluate",
        "bicubic",
        "--gt",
        out / "gt",
        "--lq",
        out / "lq",
        "-o",
        tmp_path / "scores",
        "--metrics",
        "psnr_y",
    )
    assert done.exit_code == 0, done.output
