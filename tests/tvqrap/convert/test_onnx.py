"""Upscalers as ONNX files: the same pictures, under another runtime."""

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import Result

from tests.support.commands import run
from tests.support.networks import random_upscaler
from tvqrap.architecture import Architecture, Assignment
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.pretrained.folder import read_config, save_model
from tvqrap.upscaling.upscaler import Upscaler

ARCHITECTURE = Architecture(width=0.125, codebook=16, texture=4, structure=8, swin_blocks=2)


def saved(folder: Path, assignment: Assignment) -> Path:
    torch.manual_seed(0)
    network = random_upscaler(ARCHITECTURE)
    save_model(folder, "upscaler", network, ARCHITECTURE, {"steps": 0}, assignment)
    (folder / "README.md").write_text("Random weights: größer, not better.")
    return folder


@pytest.fixture(scope="module", params=["hard", "soft"])
def model(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def hard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """For tests in which it does not matter how codes are assigned."""
    return saved(tmp_path_factory.mktemp("hard"), "hard")


def export(*arguments: object) -> Result:
    return run("export", *arguments)


@pytest.fixture(scope="module")
def file(model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("exported") / "new" / "small.onnx"
    result = export("--format", "onnx", "-o", path, "--model", model)
    assert result.exit_code == 0, result.output
    return path


def opened(file: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(file, providers=["CPUExecutionProvider"])


@pytest.fixture(scope="module")
def session(file: Path) -> Any:
    return opened(file)


# One that is the size traced, and such as are padded by mirroring, by repeating, or not at all.
@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 128), (1, 3, 1, 1), (2, 3, 33, 32), (1, 3, 70, 20), (2, 3, 128, 64)]
)
def test_pictures_are_the_same(session: Any, model: Path, shape: tuple[int, ...]) -> None:
    lr = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
    (sr,) = session.run(None, {"lr": lr})
    expected = upscaled(model, lr)
    assert sr.shape == expected.shape
    assert sr.std() > 0.025
    assert np.abs(sr - expected).max() < 5e-4


def upscaled(model: Path, lr: np.ndarray) -> np.ndarray:
    """By PyTorch, from 0 to 1."""
    upscaler = Upscaler.from_pretrained(model, "cpu")
    return upscaler(torch.from_numpy(lr) * 2 - 1).numpy() / 2 + 0.5


def test_values_from_minus_one_to_one_if_asked(hard: Path, tmp_path: Path) -> None:
    assert export("-o", tmp_path / "a.onnx", "--model", hard, "--signed").exit_code == 0
    session = opened(tmp_path / "a.onnx")
    lr = np.random.default_rng(0).uniform(0, 1, (1, 3, 40, 30)).astype(np.float32)
    (sr,) = session.run(None, {"lr": lr * 2 - 1})
    assert np.abs(sr / 2 + 0.5 - upscaled(hard, lr)).max() < 5e-4
    assert session.get_modelmeta().custom_metadata_map["range"] == "-1 to 1"


def test_half_precision_is_close(model: Path, file: Path, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    assert export("-o", half, "--model", model, "--dtype", "float16").exit_code == 0
    assert half.stat().st_size < 0.8 * file.stat().st_size
    session = opened(half)
    lr = np.random.default_rng(0).uniform(0, 1, (1, 3, 40, 30)).astype(np.float16)
    (sr,) = session.run(None, {"lr": lr})
    expected = upscaled(model, lr.astype(np.float32))
    assert sr.dtype == np.float16 and sr.shape == expected.shape
    # Rounding may choose other codes here and there.
    assert np.median(np.abs(sr.astype(np.float32) - expected)) < 0.01


def test_the_file_says_what_it_is(session: Any, model: Path) -> None:
    said = session.get_modelmeta()
    assert "größer" in said.description
    metadata = said.custom_metadata_map
    assert metadata["fingerprint"] == read_config(model).fingerprint
    assert Architecture.from_dict(json.loads(metadata["architecture"])) == ARCHITECTURE
    assert metadata["assignment"] == read_config(model).assignment
    assert metadata["range"] == "0 to 1" and metadata["scale"] == "4"
    (given,), (made,) = session.get_inputs(), session.get_outputs()
    assert given.shape == ["count", 3, "height", "width"]
    assert (given.name, made.name) == ("lr", "sr")


def test_a_file_that_is_there_is_kept(hard: Path, tmp_path: Path) -> None:
    there = tmp_path / "there.onnx"
    there.write_bytes(b"mine")
    result = export("-o", there, "--model", hard)
    assert result.exit_code == 1 and "--overwrite" in result.output
    assert there.read_bytes() == b"mine"


def test_without_onnx(hard: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    result = export("-o", tmp_path / "a.onnx", "--model", hard)
    assert result.exit_code == 1
    assert "pip install 'tvqrap[export]'" in result.output and len(result.output.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_wrong_use(hard: Path, tmp_path: Path) -> None:
    for arguments, message in (
        (("--format", "tflite", "-o", "a.onnx"), "--format: found 'tflite', expected onnx or"),
        (("-o", "a.onnx", "--dtype", "int8"), "--dtype: found 'int8', expected float32 or"),
        (("-o", "a.pt"), "a.pt: expected a name that ends in .onnx"),
    ):
        result = export(*arguments, "--model", hard)
        assert result.exit_code == 2 and message in result.output
    result = export("-o", tmp_path / "a.onnx", "--model", tmp_path)
    assert result.exit_code == 1 and "no model there" in result.output
    tokenizer = tmp_path / "tokenizer"
    save_model(tokenizer, "tokenizer", Tokenizer(ARCHITECTURE), ARCHITECTURE, {})
    result = export("-o", tmp_path / "a.onnx", "--model", tokenizer)
    assert result.exit_code == 1 and "holds a tokenizer, expected an upscaler" in result.output
    assert not (tmp_path / "a.onnx").exists()
