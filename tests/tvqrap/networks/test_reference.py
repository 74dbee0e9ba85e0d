"""The paper's network, held against what the published one computes (tests/reference).

The reference picture is in cli/test_import.py: it takes the whole way, from a published file.
"""

from typing import TypeVar

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.support.networks import straight_through
from tests.support.reference import NOT_LEARNED, REFERENCE, Published, shapes, uniform, weight
from tvqrap.architecture import Architecture
from tvqrap.convert.names import PREDICTOR_PREFIXES, reference_name
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork

M = TypeVar("M", Tokenizer, UpscalerNetwork)


def filled(network: M) -> M:
    network.load_state_dict(
        {
            name: weight(reference_name(name), list(value.shape))
            for name, value in network.state_dict().items()
        }
    )
    return network.eval()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return filled(Tokenizer(Architecture()))


@pytest.fixture(scope="module")
def upscaler() -> UpscalerNetwork:
    return filled(UpscalerNetwork(Architecture()))


def close(answer: Tensor, expected: np.ndarray) -> None:
    torch.testing.assert_close(answer, torch.from_numpy(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize("published", ["tokenizer", "upscaler"])
def test_each_learned_tensor_has_one_name_of_equal_shape(
    published: Published, tokenizer: Tokenizer, upscaler: UpscalerNetwork
) -> None:
    own = tokenizer.state_dict() | (upscaler.state_dict() if published == "upscaler" else {})
    named = {reference_name(name): list(value.shape) for name, value in own.items()}
    learned = {
        name: shape for name, shape in shapes(published).items() if not name.endswith(NOT_LEARNED)
    }
    assert len(named) == len(own)
    assert named == learned


def test_names_tell_whose_a_tensor_is_and_others_have_none(upscaler: UpscalerNetwork) -> None:
    for name in upscaler.state_dict():
        of_predictor = reference_name(name).startswith(PREDICTOR_PREFIXES)
        assert of_predictor == name.startswith("predictor.")
    for unknown in ("encoder.blocks.0.weight", "decoder.weight", "", "predictor.norm.weight"):
        with pytest.raises(ValueError, match="no tensor of the paper's networks"):
            reference_name(unknown)


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
    image, prediction = straight_through(upscaler, lr)
    assert prediction.structure is not None
    close(image, expected[f"{name}_sr"])
    close(prediction.structure, expected[f"{name}_structure"])
    codes = prediction.logits.argmax(1)
    np.testing.assert_array_equal(codes.numpy(), expected[f"{name}_codes"])
