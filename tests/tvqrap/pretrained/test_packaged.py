"""The network in the package: it is there, small, whole, and better than enlarging plainly."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.support import commands
from tests.support.paths import ROOT
from tvqrap.images.tensors import to_tensor
from tvqrap.losses.perceptual_weights import stlpips
from tvqrap.pretrained.folder import WEIGHTS, load_tokenizer, read_config
from tvqrap.pretrained.models import find_model
from tvqrap.pretrained.packaged import DEGRADED, TOKENIZER, UPSCALER
from tvqrap.runtime.errors import UserError
from tvqrap.upscaling.upscaler import Upscaler

PHOTO = ROOT / "data/photos/astronaut.jpg"


def test_it_is_small_and_belongs_together() -> None:
    files = [folder / WEIGHTS for folder in (TOKENIZER, UPSCALER, DEGRADED)]
    assert sum(file.stat().st_size for file in files) < 20e6
    assert read_config(TOKENIZER).architecture == read_config(UPSCALER).architecture
    degraded = read_config(DEGRADED).architecture
    assert degraded.of_tokenizer == read_config(TOKENIZER).architecture
    assert load_tokenizer(TOKENIZER).codebook.embedding.weight.isfinite().all()


def test_upscalers_have_names() -> None:
    assert find_model("package:rap").path == UPSCALER
    assert find_model("package:degraded").path == DEGRADED
    with pytest.raises(UserError, match="package:none: expected package:rap or package:degraded"):
        find_model("package:none")


def test_commands_know_the_names(tmp_path: Path) -> None:
    def run(*arguments: object) -> str:
        result = commands.run(*arguments)
        assert result.exit_code == 0, result.output
        return result.output

    for folder, side in (("gt", 64), ("lq", 16)):
        (tmp_path / folder).mkdir()
        Image.new("RGB", (side, side), "red").save(tmp_path / folder / "a.png")
    photo = tmp_path / "lq/a.png"
    said = run("upscale", photo, "-o", tmp_path / "x.png", "--model", "package:degraded")
    assert f"fingerprint {read_config(DEGRADED).fingerprint[:12]}" in said
    file = tmp_path / "x.safetensors"
    words = ("--model", "package:degraded", "--format", "safetensors", "-o", file)
    assert str(DEGRADED) in run("export", *words)
    assert find_model(file).fingerprint == read_config(DEGRADED).fingerprint
    words = ("--gt", tmp_path / "gt", "--lq", tmp_path / "lq", "--metrics", "psnr_y")
    said = run("evaluate", "package:rap", "small=package:degraded", *words, "-o", tmp_path / "out")
    assert "package:rap" in said and "small" in said
    assert "package:degraded" in run("benchmark", "package:degraded", "--sides", 64, "--rounds", 1)


def distance(image: Image.Image, hr: Image.Image) -> float:
    with torch.no_grad():
        return stlpips("vgg")(to_tensor(image)[None], to_tensor(hr)[None]).item()


def reduced() -> tuple[Image.Image, Image.Image]:
    """A photograph that the networks have not seen, of 256x256 pixels, and 64x64 of it."""
    hr = Image.open(PHOTO).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
    return hr, hr.resize((64, 64), Image.Resampling.BICUBIC)


def test_it_beats_bicubic() -> None:
    hr, lr = reduced()
    bicubic = lr.resize((256, 256), Image.Resampling.BICUBIC)
    assert distance(Upscaler()(lr), hr) < 0.9 * distance(bicubic, hr)


def test_the_one_for_degraded_photographs_removes_noise() -> None:
    noise = np.random.default_rng(1).normal(128, 12, (64, 64, 3))
    noisy = np.clip(noise, 0, 255).astype(np.uint8)
    left, usual = (
        Upscaler.from_pretrained(f"package:{name}")(noisy).std(axis=(0, 1)).mean()
        for name in ("degraded", "rap")
    )
    assert left < 0.5 * usual, (left, usual)
