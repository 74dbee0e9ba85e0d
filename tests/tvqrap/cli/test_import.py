"""`tvqrap-cli import`, from the authors' file to their picture and their codes."""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from click.testing import Result

from pipeline.shards.tar import Sample
from pipeline.tokens.encode import Crop, Encoder
from tests.support import commands
from tests.support.reference import NOT_LEARNED, REFERENCE, published_state, shapes, uniform, weight
from tests.support.tokens import SETTINGS
from tvqrap.architecture import Architecture
from tvqrap.pretrained.folder import load_tokenizer, read_config
from tvqrap.upscaling.upscaler import Upscaler


def run(*arguments: object) -> Result:
    return commands.run("import", *arguments)


class Imported(NamedTuple):
    file: Path
    result: Result
    upscaler: Path
    tokenizer: Path


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Imported]:
    """A stage-3 file with the reference weights, and its two models."""
    root = tmp_path_factory.mktemp("published")
    file, upscaler, tokenizer = root / "stage3.pth", root / "given/rap", root / "given/tokenizer"
    torch.save({"params_ema": published_state("upscaler", weight), "iter": 1}, file)
    result = run(file, "-o", upscaler, "--tokenizer", tokenizer)
    yield Imported(file, result, upscaler, tokenizer)
    # Hundreds of megabytes, which pytest would keep.
    for path in (file, upscaler / "model.safetensors", tokenizer / "model.safetensors"):
        path.unlink(missing_ok=True)


@pytest.fixture(scope="module")
def stage1(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small stage-1 file: all weights are zero."""
    path = tmp_path_factory.mktemp("published") / "stage1.pth"
    torch.save({"params_ema": published_state("tokenizer")}, path)
    return path


def test_says_what_was_made_and_what_was_left_out(imported: Imported) -> None:
    assert imported.result.exit_code == 0, imported.result.output
    names = shapes("upscaler")
    fixed = [name for name in names if name.endswith(NOT_LEARNED)]
    upscaler, tokenizer = read_config(imported.upscaler), read_config(imported.tokenizer)
    lines = imported.result.output.splitlines()
    assert [line.partition(": ")[0] for line in lines] == [
        f"{imported.upscaler}",
        "  left out, not part of an upscaler",
        "  left out, not part of an upscaler",
        "  left out, not part of an upscaler",
        f"{imported.tokenizer}",
        "  left out, not part of a tokenizer",
        f"{len(fixed)} tensors that the networks compute, found equal",
        "other entries of the file, not read",
    ]
    assert lines[0].endswith(
        "upscaler with 1024 codes, from params_ema of stage3.pth, "
        f"fingerprint {upscaler.fingerprint[:12]}"
    )
    assert [lines[n].split(": ")[1] for n in (1, 2, 3, 5)] == [
        "encoder 235",
        "fuse 22",
        "small_autoencoder 116",
        "predictor 552",
    ]
    # In the file's own names.
    assert set(lines[2].split(": ")[2].split(", ")) - {"..."} <= set(names)
    assert lines[7].endswith(": iter")
    assert (upscaler.kind, tokenizer.kind) == ("upscaler", "tokenizer")
    assert upscaler.architecture == tokenizer.architecture == Architecture()
    assert upscaler.about["imported"] == {
        "file": "stage3.pth",
        "sha256": hashlib.sha256(imported.file.read_bytes()).hexdigest(),
        "entry": "params_ema",
        "left_out": {"encoder": 235, "fuse": 22, "small_autoencoder": 116},
    }


def test_upscaler_makes_the_authors_picture(imported: Imported) -> None:
    expected = np.load(REFERENCE / "png.npz")
    upscaled = Upscaler.from_pretrained(imported.upscaler)(expected["lr"])
    assert np.abs(upscaled.astype(int) - expected["sr"].astype(int)).max() <= 1


def test_tokenizer_finds_the_authors_codes(imported: Imported) -> None:
    expected = np.load(REFERENCE / "tokenizer.npz")
    structure, codes = load_tokenizer(imported.tokenizer).tokenize(uniform(2, 1, 3, 256, 256))
    np.testing.assert_array_equal(codes.numpy(), expected["codes"])
    assert structure is not None
    np.testing.assert_allclose(structure.numpy(), expected["structure"], rtol=0, atol=1e-4)


def test_tokens_are_extracted_with_an_imported_tokenizer(imported: Imported) -> None:
    encoder = Encoder(imported.tokenizer, read_config(imported.tokenizer).fingerprint, SETTINGS)
    hr = np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8)
    structure, codes = encoder([Crop(Sample("a", {}), hr)])
    assert structure is not None and structure.shape[0] == 1
    assert codes.shape == (1, 32, 32) and len(np.unique(codes)) > 1


def test_stage_1_becomes_a_tokenizer_and_nothing_is_overwritten_unasked(
    stage1: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "tokenizer"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"mine")
    result = run(stage1, "-o", folder)
    assert result.exit_code == 1 and "--overwrite replaces it" in result.output
    assert (folder / "model.safetensors").read_bytes() == b"mine"
    result = run(stage1, "-o", folder, "--overwrite")
    assert result.exit_code == 0, result.output
    # Not `output`: it holds warnings too, of whatever the process does beside.
    first, computed = result.stdout.splitlines()
    assert "1024 codes" in first and computed.endswith(", ...")
    everything = run(stage1, "-o", folder, "--overwrite", "--verbose").output.splitlines()
    assert everything[2].endswith("relative_position_index") and len(everything) > 10
    assert not load_tokenizer(folder).codebook.embedding.weight.any()
    (folder / "model.safetensors").unlink()


def test_wrong_use(stage1: Path, tmp_path: Path) -> None:
    out, file = tmp_path / "out", tmp_path / "file"
    file.write_bytes(b"not weights")
    for arguments, code, message in (
        ((stage1, "-o", out, "--tokenizer", tmp_path / "t"), 2, "is a stage-1 file"),
        ((stage1, "-o", out, "--tokenizer", out), 2, "is the folder of --output"),
        ((stage1, "-o", file), 1, "is a file, expected a folder"),
        ((stage1, "-o", file / "out"), 1, "is a file, expected a folder"),
        ((file, "-o", out), 1, "not readable as .pth or safetensors"),
    ):
        result = run(*arguments)
        assert result.exit_code == code and message in result.output, result.output
        assert len(result.output.splitlines()) == 1
    assert [*tmp_path.iterdir()] == [file]
