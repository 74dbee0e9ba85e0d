"""The network in the package: it is there, small, whole, and better than enlarging plainly."""

import torch
from PIL import Image

from tests.support.paths import ROOT
from tvqrap.images.tensors import to_tensor
from tvqrap.losses.perceptual_weights import stlpips
from tvqrap.pretrained.folder import WEIGHTS, load_tokenizer, read_config
from tvqrap.pretrained.packaged import TOKENIZER, UPSCALER
from tvqrap.upscaling.upscaler import Upscaler

PHOTO = ROOT / "data/photos/astronaut.jpg"


def test_it_is_small_and_belongs_together() -> None:
    files = [folder / WEIGHTS for folder in (TOKENIZER, UPSCALER)]
    assert sum(file.stat().st_size for file in files) < 20e6
    assert read_config(TOKENIZER).architecture == read_config(UPSCALER).architecture
    assert load_tokenizer(TOKENIZER).codebook.embedding.weight.isfinite().all()


def test_it_beats_bicubic_on_a_photograph_it_has_not_seen() -> None:
    hr = Image.open(PHOTO).convert("RGB").resize((256, 256), Image.Resampling.BICUBIC)
    lr = hr.resize((64, 64), Image.Resampling.BICUBIC)
    distance = stlpips("vgg")

    def score(image: Image.Image) -> float:
        with torch.no_grad():
            return distance(to_tensor(image)[None], to_tensor(hr)[None]).item()

    bicubic = lr.resize((256, 256), Image.Resampling.BICUBIC)
    assert score(Upscaler()(lr)) < 0.9 * score(bicubic)
