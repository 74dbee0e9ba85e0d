"""Blocks and networks: equal to their plain definitions, right in shape, gradient and size."""

from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn import functional as F

from tests.support.networks import straight_through
from tvqrap.architecture import STRUCTURES, Architecture
from tvqrap.images.padding import crop_upscaled, pad_to_multiple
from tvqrap.losses.discriminator import PatchDiscriminator, UNetDiscriminator
from tvqrap.networks.blocks import Down, Res, SwinGroup, Up, WindowAttention, attend, shift_mask
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork

TINY = 0.0625
COMBINATIONS = [
    (texture, structure)
    for texture in (4, 8)
    for structure in (None, *STRUCTURES)
    if structure is None or structure >= texture
]


def millions(module: nn.Module | None) -> float:
    assert module is not None
    return sum(p.numel() for p in module.parameters()) / 1e6


def tiny(texture: int = 4, structure: int | None = 16) -> Architecture:
    return Architecture(TINY, 16, texture, structure, swin_blocks=2)


def build(network: type, arch: Architecture) -> nn.Module:
    torch.manual_seed(0)
    return network(arch)


def test_parameter_counts_are_the_papers() -> None:
    with torch.device("meta"):
        tokenizer, network = Tokenizer(Architecture()), UpscalerNetwork(Architecture())
    assert millions(tokenizer) == pytest.approx(35.56, abs=0.006)
    assert millions(tokenizer.encoder) == pytest.approx(16.63, abs=0.006)
    assert millions(tokenizer.structure_decoder) == pytest.approx(4.31, abs=0.006)
    assert millions(tokenizer.fuse) == pytest.approx(3.68, abs=0.006)
    assert millions(tokenizer.decoder) == pytest.approx(9.82, abs=0.006)
    assert millions(tokenizer.codebook) == pytest.approx(0.26, abs=0.006)
    assert millions(tokenizer.small_autoencoder) == pytest.approx(0.86, abs=0.006)
    assert millions(network) == pytest.approx(53.85, abs=0.006)


def test_fewer_blocks_make_a_smaller_predictor_of_the_same_tokens() -> None:
    with torch.device("meta"):
        deep, shallow = (UpscalerNetwork(Architecture(swin_blocks=n)) for n in (6, 2))
        prediction = shallow.predict(torch.empty(1, 3, 32, 64))
    block = 12 * 256**2 + 13 * 256 + 8 * 15**2
    assert millions(deep) - millions(shallow) == pytest.approx(20 * block / 1e6)
    assert prediction.logits.shape == (1, 1024, 16, 32)


@pytest.mark.parametrize("structure_width", [None, 0.5])
@pytest.mark.parametrize(("texture", "structure"), COMBINATIONS)
def test_every_combination_runs_at_its_smallest_size(
    texture: int, structure: int | None, structure_width: float | None
) -> None:
    arch = replace(tiny(texture, structure), structure_width=structure_width)
    tokenizer = build(Tokenizer, arch)
    network = build(UpscalerNetwork, arch)
    assert isinstance(tokenizer, Tokenizer)
    assert isinstance(network, UpscalerNetwork)
    network.load_state_dict(tokenizer.state_dict(), strict=False)
    side = arch.hr_multiple
    hr = torch.rand(2, 3, side, 2 * side) * 2 - 1
    with torch.inference_mode():
        tokens = tokenizer.tokenize(hr)
        reconstruction = tokenizer(hr)
        lr = F.avg_pool2d(hr, 4)
        prediction = network.predict(lr)
        sr = network(lr)
        decoded = tokenizer.decode_codes(*tokens)
    at_texture = (side // texture, 2 * side // texture)
    assert tokens[1].shape == (2, *at_texture)
    assert reconstruction.encoded.texture.shape == (2, arch.texture_channels, *at_texture)
    assert reconstruction.image.shape == sr.shape == hr.shape
    assert prediction.logits.shape == (2, 16, *at_texture)
    torch.testing.assert_close(decoded, reconstruction.image, rtol=1e-3, atol=1e-4)
    if structure is None:
        assert tokens[0] is None
        assert prediction.structure is None
        assert tokenizer.small_autoencoder is None
        return
    assert tokens[0] is not None
    assert prediction.structure is not None
    assert tokenizer.small_autoencoder is not None
    small = tokenizer.small_autoencoder(hr)
    expected = (2, arch.structure_channels, side // structure, 2 * side // structure)
    assert tokens[0].shape == prediction.structure.shape == small.structure.shape == expected
    assert small.image.shape == small.reduced.shape
    assert small.reduced.shape[2] == side * 4 // structure


@pytest.mark.parametrize("structure", [None, 16])
def test_every_parameter_of_the_tokenizer_learns(structure: int | None) -> None:
    tokenizer = build(Tokenizer, tiny(structure=structure))
    hr = torch.rand(1, 3, 64, 64) * 2 - 1
    result = tokenizer(hr)
    loss = result.image.square().mean() + result.quantized.codebook_loss
    if structure is not None:
        small = tokenizer.small_autoencoder(hr)
        loss = loss + small.image.square().mean() + small.structure.square().mean()
    loss.backward()
    for name, parameter in tokenizer.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_without_quantizing_the_texture_reaches_the_decoder_as_it_is() -> None:
    tokenizer = build(Tokenizer, tiny())
    hr = torch.rand(1, 3, 64, 64)
    result = tokenizer(hr, quantize=False)
    assert result.quantized is None
    expected = tokenizer.decode(result.encoded.structure, result.encoded.texture)
    torch.testing.assert_close(result.image, expected)


def test_structure_and_texture_can_be_shown_alone() -> None:
    tokenizer = build(Tokenizer, tiny())
    structure, codes = tokenizer.tokenize(torch.rand(1, 3, 64, 64))
    quantized = tokenizer.codebook.lookup(codes)
    decoded = tokenizer.structure_decoder(structure)
    zero = torch.zeros_like(quantized)
    torch.testing.assert_close(tokenizer.decode(structure, None), tokenizer.decode(structure, zero))
    torch.testing.assert_close(tokenizer.decode(structure, None), tokenizer.decoder(decoded))
    torch.testing.assert_close(tokenizer.decode(None, quantized), tokenizer.decoder(quantized))
    with pytest.raises(ValueError, match="found neither"):
        tokenizer.decode(None, None)


def test_the_predictor_asks_for_the_structure_decoder_it_needs() -> None:
    lr = torch.zeros(1, 3, 16, 16)
    with pytest.raises(ValueError, match="takes a structure decoder"):
        build(UpscalerNetwork, tiny()).predictor(lr, None)
    with pytest.raises(ValueError, match="takes no structure decoder"):
        build(UpscalerNetwork, tiny(structure=None)).predictor(lr, nn.Identity())


def test_the_codes_send_no_gradient_to_the_structure() -> None:
    network = build(UpscalerNetwork, tiny())
    prediction = network.predict(torch.rand(1, 3, 16, 16))
    prediction.logits.square().sum().backward(retain_graph=True)
    assert all(p.grad is None for p in network.predictor.structure_head.parameters())
    prediction.decoded_structure.sum().backward()
    assert all(p.grad is not None for p in network.predictor.structure_head.parameters())


def test_codes_are_scored_in_float32_under_autocast() -> None:
    """Scores in bfloat16 tie, and the first of the best is another code than in inference."""
    network = build(UpscalerNetwork, Architecture(TINY, 1024, 4, 16))
    inside: dict[str, torch.Tensor] = {}
    head = network.predictor.code_head
    head.transformer.register_forward_hook(lambda _m, _i, out: inside.update(h=out))
    with torch.no_grad():
        with torch.autocast("cpu", torch.bfloat16):
            logits = network.predict(torch.rand(2, 3, 32, 32) * 2 - 1).logits
        h = inside["h"].float().permute(0, 2, 3, 1)
        expected = head.score(head.norm(h)).permute(0, 3, 1, 2)
    assert logits.dtype == torch.float32
    assert torch.equal(logits.argmax(1), expected.argmax(1))


@pytest.mark.parametrize("structure", [None, 16])
def test_straight_through_is_hard_forward_and_soft_backward(structure: int | None) -> None:
    network = build(UpscalerNetwork, tiny(structure=structure)).double()
    nn.init.normal_(network.codebook.embedding.weight)
    network.freeze()
    lr = torch.rand(1, 3, 16, 16, dtype=torch.float64) * 2 - 1
    image, prediction = straight_through(network, lr)
    torch.testing.assert_close(image, network(lr))

    # With a decoder that only adds, the gradient does not depend on the values before it.
    network.decoder = nn.Sequential(nn.Conv2d(16, 3, 1, dtype=torch.float64))
    image, prediction = straight_through(network, lr)
    into = torch.randn_like(image)
    (gradient,) = torch.autograd.grad(image, prediction.logits, into, retain_graph=True)
    soft = prediction.logits.softmax(1)
    values = torch.einsum("nkhw,kc->nchw", soft, network.codebook.embedding.weight)
    (expected,) = torch.autograd.grad(network.decoder(values), prediction.logits, into)
    torch.testing.assert_close(gradient, expected)
    image.sum().backward()
    for name, parameter in network.named_parameters():
        if not name.startswith("decoder."):
            assert (parameter.grad is not None) == name.startswith("predictor."), name


def test_up_is_nearest_and_convolution() -> None:
    torch.manual_seed(0)
    up = Up(6).double()
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64, requires_grad=True)
    plain = up.conv(F.interpolate(x, scale_factor=2, mode="nearest"))
    torch.testing.assert_close(up(x), plain)
    into = torch.randn_like(plain)
    inputs = (x, *up.parameters())
    for got, expected in zip(
        torch.autograd.grad(up(x), inputs, into),
        torch.autograd.grad(plain, inputs, into),
        strict=True,
    ):
        torch.testing.assert_close(got, expected)


def test_blocks_have_right_gradients() -> None:
    torch.manual_seed(0)
    block = nn.Sequential(Res(4, 8), Down(8), SwinGroup(16, 2, 2, conv=True), Up(16)).double()
    for name, parameter in block.named_parameters():
        if name.endswith("position_bias"):
            nn.init.normal_(parameter)
    x = torch.randn(1, 4, 16, 16, dtype=torch.float64, requires_grad=True)
    direction = torch.randn_like(x)
    into = torch.randn_like(block(x)).detach()
    block(x).backward(into)
    assert x.grad is not None
    with torch.no_grad():
        step = 1e-6 * direction
        difference = ((block(x + step) - block(x - step)) * into).sum() / 2e-6
    torch.testing.assert_close((x.grad * direction).sum(), difference, rtol=1e-6, atol=1e-6)


def plain_attention(layer: WindowAttention, x: torch.Tensor) -> torch.Tensor:
    """The definition, token by token over the whole map, without windows being cut.

    Tokens see each other when they are in one window after the shift and were neighbours
    before it (no wrap between them); -100 stands where the window is shared but not the side.
    """
    n, height, width, channels = x.shape
    shift = 4 if layer.shifted else 0
    y, xx = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack((y.flatten(), xx.flatten()), 1)  # H * W, 2
    sides = torch.tensor([height, width])
    shifted = (place - shift) % sides
    window = shifted // 8
    together = (window[:, None] == window[None]).all(2)
    wrapped = place < shift
    apart = (wrapped[:, None] != wrapped[None]).any(2)
    relative = shifted[:, None] % 8 - shifted[None] % 8 + 7
    bias = layer.position_bias[(relative[..., 0] * 15 + relative[..., 1]).clamp(0, 224)]
    bias = bias.permute(2, 0, 1) - 100.0 * apart
    bias = bias.masked_fill(~together, -torch.inf)
    q, k, v = (
        layer.qkv(x).view(n, height * width, 3, layer.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    )
    scores = q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5 + bias
    out = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, height, width, channels)
    return layer.proj(out)


@pytest.mark.parametrize("shifted", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (16, 8), (16, 24)])
def test_window_attention_is_its_definition(shifted: bool, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    layer = WindowAttention(8, 2, shifted).double()
    nn.init.normal_(layer.position_bias)
    x = torch.randn(2, *size, 8, dtype=torch.float64, requires_grad=True)
    mask = shift_mask(*size, x.device, x.dtype)
    expected = plain_attention(layer, x)
    torch.testing.assert_close(layer(x, mask), expected)
    with torch.no_grad():
        torch.testing.assert_close(layer(x, mask), expected)
    into = torch.randn_like(expected)
    inputs = (x, *layer.parameters())
    for got, wanted in zip(
        torch.autograd.grad(layer(x, mask), inputs, into),
        torch.autograd.grad(expected, inputs, into),
        strict=True,
    ):
        torch.testing.assert_close(got, wanted)


def test_the_mask_acts_to_the_last_bit_as_the_published_one() -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 1, 12, 64, 32) * 2
    ours = shift_mask(16, 24, q.device, q.dtype).expand(-1, 2, -1, -1).reshape(1, 12, 64, 64)
    published = ours.clamp(min=-100.0)
    assert (published.unique() == torch.tensor([-100.0, 0.0])).all()
    assert torch.equal(attend(q, k, v, ours), attend(q, k, v, published))
    into = torch.randn_like(q)
    gradients = [
        torch.autograd.grad(attend(*inputs, mask.clone().requires_grad_()), inputs, into)
        for mask in (ours, published)
        for inputs in [[x.clone().requires_grad_() for x in (q, k, v)]]
    ]
    assert all(torch.equal(a, b) for a, b in zip(*gradients, strict=True))


def test_both_ways_to_attend_agree() -> None:
    q, k, v = torch.randn(3, 4, 2, 64, 16)
    bias = torch.randn(1, 2, 64, 64)
    expected = attend(q, k, v, bias)
    torch.testing.assert_close(attend(q, k, v, bias.clone().requires_grad_()), expected)


def test_a_mask_made_in_inference_serves_training() -> None:
    shift_mask.cache_clear()
    network = build(UpscalerNetwork, tiny())
    lr = torch.rand(1, 3, 16, 32)
    with torch.inference_mode():
        network(lr)
    network(lr).sum().backward()
    assert not [name for name in network.state_dict() if "mask" in name or "index" in name]


def test_layout_changes_no_answer_and_is_kept() -> None:
    network = build(UpscalerNetwork, tiny()).double()
    lr = torch.rand(2, 3, 16, 32, dtype=torch.float64)
    with torch.inference_mode():
        expected = network(lr)
        network.to(memory_format=torch.channels_last)
        answer = network(lr.contiguous(memory_format=torch.channels_last))
    torch.testing.assert_close(answer, expected)
    assert answer.is_contiguous(memory_format=torch.channels_last)


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([8, 16, 32, 64]))
def test_padding_mirrors_and_is_cropped_away(height: int, width: int, multiple: int) -> None:
    lr = torch.rand(1, 3, height, width)
    padded = pad_to_multiple(lr, multiple)
    assert padded.shape[2] == -(-height // multiple) * multiple
    assert padded.shape[3] == -(-width // multiple) * multiple
    assert torch.equal(padded[..., :height, :width], lr)

    def source(side: int, whole: int) -> torch.Tensor:
        place = torch.arange(whole)
        mirrored = 2 * (side - 1) - place
        beyond = mirrored if whole - side < side else torch.full((whole,), side - 1)
        return torch.where(place < side, place, beyond)

    rows, columns = source(height, padded.shape[2]), source(width, padded.shape[3])
    assert torch.equal(padded, lr[:, :, rows][..., columns])
    sr = F.interpolate(padded, scale_factor=4, mode="nearest")
    cropped = crop_upscaled(sr, height, width)
    assert torch.equal(cropped, F.interpolate(lr, scale_factor=4, mode="nearest"))


def test_patch_discriminator() -> None:
    torch.manual_seed(0)
    discriminator = PatchDiscriminator()
    kinds = [type(layer).__name__ for layer in discriminator.layers]
    assert kinds.count("Conv2d") == 4
    assert kinds.count("BatchNorm2d") == 2
    assert millions(discriminator) == pytest.approx(0.663, abs=0.001)
    image = torch.rand(2, 3, 64, 64, requires_grad=True)
    *features, scores = discriminator(image)
    assert [each.shape[1:] for each in features] == [(64, 32, 32), (128, 16, 16), (256, 15, 15)]
    assert scores.shape == (2, 1, 14, 14)
    scores.mean().backward()
    assert image.grad is not None
    assert PatchDiscriminator(0.25)(torch.rand(2, 3, 12, 12))[-1].shape == (2, 1, 1, 1)


def test_unet_discriminator() -> None:
    """Scores of all pixels, spectral norms of 1, and each image judged by itself."""
    torch.manual_seed(0)
    discriminator = UNetDiscriminator(0.25)
    image = torch.rand(2, 3, 36, 44, requires_grad=True)
    *features, scores = discriminator(image)
    assert [each.shape[1:] for each in features] == [(32, 18, 22), (64, 9, 11), (128, 4, 5)]
    assert scores.shape == (2, 1, 36, 44)
    scores.mean().backward()
    assert image.grad is not None and image.grad.abs().min() > 0
    for layer in (*discriminator.down, *discriminator.up, discriminator.last):
        for _ in range(30):  # power iterations, one with each use
            used = layer.weight
        assert torch.linalg.matrix_norm(used.flatten(1), 2).item() == pytest.approx(1.0, rel=0.05)
    discriminator.eval()
    both, alone = discriminator(image)[-1], discriminator(image[:1])[-1]
    torch.testing.assert_close(both[:1], alone)
