"""`tvqrap-cli decompose`, from the outside."""

from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import Result
from PIL import Image
from torch import nn

from tests.support import commands
from tvqrap import decomposition
from tvqrap.architecture import Architecture
from tvqrap.images.reading.open import read_image
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import load_tokenizer, save_model

TINY = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)
VANILLA = Architecture(width=0.0625, codebook=16, texture=4, structure=None, swin_blocks=2)


def run(*arguments: object) -> Result:
    return commands.run("decompose", *arguments)


def saved(folder: Path, kind: str, architecture: Architecture) -> Path:
    torch.manual_seed(0)
    module: Tokenizer | UpscalerNetwork = (
        Tokenizer(architecture) if kind == "tokenizer" else UpscalerNetwork(architecture)
    )
    nn.init.normal_(module.codebook.embedding.weight)
    save_model(folder, kind, module, architecture, {})  # type: ignore[arg-type]
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return saved(tmp_path_factory.mktemp("models") / "tokenizer", "tokenizer", TINY)


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_pictures_and_one_line(model: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "deep" / "out"
    result = run(photo, "-o", out, "--model", model)
    assert result.exit_code == 0, result.output
    assert names(out) == [
        f"{name}.png" for name in ("both", "codes", "input", "sheet", "structure", "texture")
    ]
    parts = decomposition.decompose(load_tokenizer(model), read_image(photo))
    for name, picture in parts.pictures.items():
        np.testing.assert_array_equal(np.asarray(read_image(out / f"{name}.png")), picture)
    (line,) = result.output.splitlines()
    for words in ("of 16 codes, perplexity", "structure share", "dB (structure alone"):
        assert words in line
    assert f"{parts.psnr(parts.both):.2f} dB" in line  # type: ignore[arg-type]


def test_a_large_photograph_is_reduced_and_that_is_said(
    model: Path, photo: Path, tmp_path: Path
) -> None:
    result = run(photo, "-o", tmp_path / "out", "--model", model, "--max-side", 32)
    assert result.exit_code == 0, result.output
    assert f"{photo}: reduced from 50x40 to 32x26 (--max-side 32)" in result.output
    assert read_image(tmp_path / "out" / "both.png").size == (32, 26)


def test_without_a_structure_branch(model: Path, photo: Path, tmp_path: Path) -> None:
    vanilla = saved(tmp_path / "vanilla", "tokenizer", VANILLA)
    out = tmp_path / "out"
    assert run(photo, "-o", out, "--model", model).exit_code == 0
    # What an earlier tokenizer left would be taken for this one's.
    result = run(photo, "-o", out, "--model", vanilla, "--overwrite")
    assert result.exit_code == 0, result.output
    assert names(out) == ["codes.png", "input.png", "sheet.png", "texture.png"]
    assert "no structure branch" in result.output


def test_nothing_is_overwritten_unasked(model: Path, photo: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "texture.png").write_bytes(b"mine")
    (out / "notes.txt").write_text("mine")
    result = run(photo, "-o", out, "--model", model)
    assert result.exit_code == 1 and "--overwrite replaces it" in result.output
    assert names(out) == ["notes.txt", "texture.png"]
    assert run(photo, "-o", out, "--model", model, "--overwrite").exit_code == 0
    assert (out / "texture.png").read_bytes() != b"mine"
    assert (out / "notes.txt").read_text() == "mine"
    result = run(out / "input.png", "-o", out, "--model", model, "--overwrite")
    assert result.exit_code == 1 and "is the input" in result.output


def test_what_cannot_be_used_is_one_line(model: Path, photo: Path, tmp_path: Path) -> None:
    upscaler = saved(tmp_path / "upscaler", "upscaler", TINY)
    cut = tmp_path / "cut.png"
    cut.write_bytes(photo.read_bytes()[:60])
    out = tmp_path / "out"
    for arguments, code, words in (
        ((photo, "--model", upscaler), 1, "expected a tokenizer"),
        ((photo, "--model", tmp_path), 1, "no model there"),
        ((cut, "--model", model), 1, "cannot be read"),
        ((tmp_path / "none.png", "--model", model), 1, "no such file"),
        ((tmp_path, "--model", model), 1, "is a folder"),
    ):
        result = run(*arguments, "-o", out)
        assert result.exit_code == code and words in result.output, result.output
        assert len(result.output.splitlines()) == 1
        assert not out.exists()
    result = run(photo, "-o", photo, "--model", model)
    assert result.exit_code == 1 and "is a file" in result.output
    assert run(photo, "-o", out, "--model", model, "--max-side", 3).exit_code == 2


def test_outside_a_checkout_it_takes_the_packages_tokenizer(
    photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(photo, "-o", "out")
    assert result.exit_code == 0, result.output
    assert "of 512 codes" in result.output


def test_a_failure_on_the_way_leaves_nothing(
    model: Path, photo: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    written = []

    def full(path: Path, image: object) -> None:
        if len(written) == 3:
            raise OSError("No space left on device")
        written.append(path)
        path.write_bytes(b"")

    def too_large(*_: object) -> None:
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr("tvqrap.images.save.save_png", full)
    result = run(photo, "-o", out, "--model", model)
    assert result.exit_code == 1 and "No space left" in result.output
    assert len(written) == 3 and names(out) == []
    monkeypatch.setattr(decomposition, "decompose", too_large)
    result = run(photo, "-o", out, "--model", model)
    assert result.exit_code == 1 and "lower --max-side 1024" in result.output
    assert names(out) == []
