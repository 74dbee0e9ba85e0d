"""Taking a photograph apart: the pictures are what the tokenizer's own decoder makes."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from tvqrap.architecture import Architecture
from tvqrap.decomposition import code_colours, decompose, reduce_to
from tvqrap.images.padding import pad_to_multiple
from tvqrap.images.tensors import to_tensor, to_uint8
from tvqrap.networks.tokenizer import Tokenizer

TINY = Architecture(width=0.0625, codebook=16, texture=4, structure=8, swin_blocks=2)
VANILLA = Architecture(width=0.0625, codebook=16, texture=4, structure=None, swin_blocks=2)


def tokenizer(architecture: Architecture) -> Tokenizer:
    """Random weights, codes spread out as a trained tokenizer's are."""
    torch.manual_seed(0)
    module = Tokenizer(architecture).eval()
    nn.init.normal_(module.codebook.embedding.weight)
    return module


def photo(width: int, height: int) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def cropped(image: torch.Tensor, width: int, height: int) -> np.ndarray:
    return to_uint8(image[0, :, :height, :width])


@pytest.mark.parametrize("size", [(64, 64), (70, 33), (1, 1)])
@torch.no_grad()
def test_each_picture_is_what_the_tokenizer_decodes(size: tuple[int, int]) -> None:
    module, given = tokenizer(TINY), photo(*size)
    parts = decompose(module, given)
    padded = pad_to_multiple(to_tensor(given)[None], TINY.hr_multiple)
    structure, codes = module.tokenize(padded)
    assert parts.structure is not None and parts.both is not None
    quantized = module.codebook.lookup(codes)
    for picture, image in (
        (parts.both, module.decode_codes(structure, codes)),
        (parts.structure, module.decode(structure, None)),
        (parts.texture, module.decode(None, quantized)),
    ):
        np.testing.assert_array_equal(picture, cropped(image, *size))
    # With the quantization as training does it, rounding may tip a level.
    reconstruction = cropped(module(padded).image, *size).astype(int)
    assert np.abs(reconstruction - parts.both).max() <= 1
    np.testing.assert_array_equal(parts.input, np.asarray(given))
    assert list(parts.pictures) == ["input", "both", "structure", "texture", "codes"]
    assert all(picture.shape == parts.input.shape for picture in parts.pictures.values())


@torch.no_grad()
def test_the_map_shows_the_code_of_each_place() -> None:
    module, given = tokenizer(TINY), photo(70, 33)
    parts = decompose(module, given)
    _, codes = module.tokenize(pad_to_multiple(to_tensor(given)[None], TINY.hr_multiple))
    colours = code_colours(module.codebook.embedding.weight)
    for row, column in ((0, 0), (32, 69), (5, 41)):
        expected = colours[codes[0, row // 4, column // 4]]
        np.testing.assert_array_equal(parts.code_map[row, column], expected)
    seen = codes[0, :9, :18].unique().numel()
    assert parts.use.usage == seen / 16


@torch.no_grad()
def test_structure_share_tells_who_carries_the_picture() -> None:
    module = tokenizer(TINY)
    shares = []
    for factor in (0.0, 0.01, 1.0):
        module.codebook.embedding.weight.copy_(factor * tokenizer(TINY).codebook.embedding.weight)
        shares.append(decompose(module, photo(64, 64)).structure_share)
    assert shares[0] == 1
    assert shares == sorted(shares, reverse=True)  # type: ignore[type-var]
    assert shares[-1] is not None and shares[-1] < 0.9


def test_without_a_structure_branch_the_codes_are_all_there_is() -> None:
    module, given = tokenizer(VANILLA), photo(32, 32)
    parts = decompose(module, given)
    assert (parts.structure, parts.both, parts.structure_share) == (None, None, None)
    assert list(parts.pictures) == ["input", "texture", "codes"]
    with torch.no_grad():
        image = module.decode_codes(*module.tokenize(to_tensor(given)[None]))
    np.testing.assert_array_equal(parts.texture, cropped(image, 32, 32))


def test_psnr_is_against_the_input() -> None:
    parts = decompose(tokenizer(VANILLA), photo(32, 32))
    error = (parts.texture.astype(float) - parts.input).std()
    bias = (parts.texture.astype(float) - parts.input).mean()
    expected = 20 * np.log10(255 / np.hypot(error, bias))
    assert parts.psnr(parts.texture) == pytest.approx(expected, abs=1e-3)
    assert parts.psnr(parts.input) > 100


def test_values_that_are_not_finite_are_an_error() -> None:
    module = tokenizer(TINY)
    nn.init.constant_(module.decoder[-1].bias, torch.nan)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not finite"):
        decompose(module, photo(8, 8))


class TestCodeColours:
    def test_entries_that_are_alike_are_coloured_alike(self) -> None:
        generator = torch.Generator().manual_seed(0)
        centres = torch.randn(8, 16, generator=generator) * 5
        entries = (centres[:, None] + 0.05 * torch.randn(8, 8, 16, generator=generator)).flatten(
            0, 1
        )
        colours = code_colours(entries).reshape(8, 8, 3).astype(int)
        alike = np.abs(colours[:, :, None] - colours[:, None]).mean()
        others = np.abs(colours.mean(1)[:, None] - colours.mean(1)).mean()
        assert alike < others / 3
        assert (colours.min(), colours.max()) == (0, 255)

    def test_their_order_and_sign_do_not_matter(self) -> None:
        entries = torch.randn(32, 16, generator=torch.Generator().manual_seed(0))
        colours = code_colours(entries)
        np.testing.assert_array_equal(code_colours(entries.flip(0)), colours[::-1])
        # Mirrored about the mean, a component's largest coefficient still points up.
        np.testing.assert_array_equal(code_colours(-entries), 255 - colours)

    def test_where_entries_do_not_differ_there_is_no_colour(self) -> None:
        assert (code_colours(torch.ones(4, 16)) == 128).all()
        line = torch.linspace(0, 1, 5)[:, None] * torch.ones(16)
        np.testing.assert_array_equal(code_colours(line)[:, 0], [0, 64, 128, 191, 255])
        assert (code_colours(line)[:, 1:] == 128).all()


@pytest.mark.parametrize(
    ("size", "max_side", "expected"),
    [
        ((100, 60), 100, (100, 60)),
        ((100, 60), 50, (50, 30)),
        ((1, 4000), 40, (1, 40)),
    ],
)
def test_large_photographs_are_reduced(
    size: tuple[int, int], max_side: int, expected: tuple[int, int]
) -> None:
    assert reduce_to(photo(*size), max_side).size == expected


def test_reduction_averages_areas() -> None:
    given = photo(8, 4)
    means = np.asarray(given, float).reshape(2, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(np.asarray(reduce_to(given, 4)), means, atol=1)
