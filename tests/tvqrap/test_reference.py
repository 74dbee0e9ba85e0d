"""The paper's network, held against what the published one computes (tests/reference)."""

import json
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tvqrap.architecture import Architecture
from tvqrap.network import UpscalerNetwork, crop_upscaled, pad_to_multiple
from tvqrap.reference_names import our_name
from tvqrap.tokenizer import Tokenizer

REFERENCE = Path(__file__).parents[1] / "reference"
TOKENIZER_ONLY = ("encoder.", "fuse.", "small_autoencoder.")
Names = dict[str, list[tuple[str, list[int], str]]]


@pytest.fixture(scope="module")
def names() -> Names:
    return json.loads((REFERENCE / "state_dict.json").read_text())


def weight(name: str, shape: list[int]) -> Tensor:
    seed = zlib.crc32(name.encode())
    r = np.random.RandomState(seed).standard_normal(shape).astype(np.float32)
    if len(shape) >= 2:
        fan = 25 if "relative_position_bias_table" in name else np.prod(shape[1:])
        return torch.from_numpy(r / np.float32(np.sqrt(fan)))
    return torch.from_numpy(0.1 * r + (1 if name.endswith("weight") else 0))


def uniform(seed: int, *shape: int) -> Tensor:
    values = np.random.RandomState(seed).uniform(-1, 1, shape)
    return torch.from_numpy(values.astype(np.float32))


def learned(names: Names, kind: str) -> Iterator[tuple[str, str, list[int]]]:
    """Their name, ours, and the shape, of each learned tensor in a published file."""
    for name, shape, _ in names[kind]:
        ours = our_name(name)
        if ours is not None:
            yield name, ours, shape


M = TypeVar("M", Tokenizer, UpscalerNetwork)


def filled(network: M, names: Names, kind: str) -> M:
    own = network.state_dict()
    network.load_state_dict(
        {ours: weight(name, shape) for name, ours, shape in learned(names, kind) if ours in own}
    )
    return network.eval()


@pytest.fixture(scope="module")
def tokenizer(names: Names) -> Tokenizer:
    return filled(Tokenizer(Architecture()), names, "tokenizer")


@pytest.fixture(scope="module")
def upscaler(names: Names) -> UpscalerNetwork:
    return filled(UpscalerNetwork(Architecture()), names, "upscaler")


def close(answer: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(answer, torch.from_numpy(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", ["tokenizer", "upscaler"])
def test_each_learned_tensor_has_one_name_of_equal_shape(names: Names, kind: str) -> None:
    with torch.device("meta"):
        own = {
            name: list(tensor.shape)
            for network in (Tokenizer(Architecture()), UpscalerNetwork(Architecture()))
            for name, tensor in network.state_dict().items()
            if kind == "upscaler" or isinstance(network, Tokenizer)
        }
    mapped = [(ours, shape) for _, ours, shape in learned(names, kind)]
    assert len(mapped) == len(dict(mapped)) == len(own)
    assert dict(mapped) == own


def test_only_what_is_not_learned_has_no_name(names: Names) -> None:
    dropped = {name.rsplit(".", 1)[1] for name, _, _ in names["upscaler"] if not our_name(name)}
    assert dropped == {"attn_mask", "relative_position_index"}
    for unknown in ("encoder.blocks.27.weight", "decoder.0.weight", "", "exactor.blocks.4.x"):
        with pytest.raises(ValueError, match="no tensor of a published checkpoint"):
            our_name(unknown)


@torch.inference_mode()
def test_tokenizer(tokenizer: Tokenizer) -> None:
    expected = np.load(REFERENCE / "tokenizer.npz")
    hr = uniform(2, 1, 3, 256, 256)
    encoded = tokenizer.encode(hr)
    assert encoded.structure is not None
    close(encoded.structure, expected["structure"])
    close(encoded.texture, expected["texture"])
    codes = tokenizer.codebook.nearest(encoded.texture)
    np.testing.assert_array_equal(codes.numpy(), expected["codes"])
    close(tokenizer.decode_codes(encoded.structure, codes), expected["reconstruction"])
    assert tokenizer.small_autoencoder is not None
    small = tokenizer.small_autoencoder(hr)
    close(small.structure, expected["down_structure"])
    close(small.image, expected["down_reconstruction"])


@pytest.mark.parametrize(
    ("name", "lr"),
    [
        ("square", uniform(0, 1, 3, 64, 64)),
        ("wide", uniform(1, 2, 3, 64, 96)),
        ("small", uniform(3, 1, 3, 32, 32)),
    ],
)
@torch.inference_mode()
def test_upscaler(upscaler: UpscalerNetwork, name: str, lr: Tensor) -> None:
    expected = np.load(REFERENCE / "upscaler.npz")
    image, prediction = upscaler.straight_through(lr)
    assert prediction.structure is not None
    close(image, expected[f"{name}_sr"])
    close(prediction.structure, expected[f"{name}_structure"])
    codes = prediction.logits.argmax(1)
    np.testing.assert_array_equal(codes.numpy(), expected[f"{name}_codes"])


@torch.inference_mode()
def test_a_picture(upscaler: UpscalerNetwork) -> None:
    expected = np.load(REFERENCE / "png.npz")
    lr = torch.from_numpy(expected["lr"]).permute(2, 0, 1)[None] / 127.5 - 1
    height, width = lr.shape[2:]
    sr = crop_upscaled(upscaler(pad_to_multiple(lr, 64)), height, width)
    picture = ((sr[0] + 1) * 127.5).round().clamp(0, 255).permute(1, 2, 0).numpy()
    assert np.abs(picture - expected["sr"]).max() <= 1
