"""Codebook: nearest entries, gradients, k-means and revival."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tvqrap.networks import codebook as module
from tvqrap.networks.codebook import Codebook, count_codes


def brute_force(z: torch.Tensor, entries: torch.Tensor) -> np.ndarray:
    """Nearest entries in float64, the lowest of equals."""
    flat = z.permute(0, 2, 3, 1).double().numpy()[..., None, :]
    return ((flat - entries.double().numpy()) ** 2).sum(-1).argmin(-1)


def filled(entries: torch.Tensor) -> Codebook:
    book = Codebook(*entries.shape)
    with torch.no_grad():
        book.embedding.weight.copy_(entries)
    return book


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    entries=st.integers(2, 70),
    channels=st.integers(1, 40),
    scale=st.sampled_from([1e-3, 1.0, 1e3]),
    offset=st.sampled_from([0.0, 1.0, 100.0]),
)
def test_nearest_is_the_brute_force_of_float64(
    seed: int, entries: int, channels: int, scale: float, offset: float
) -> None:
    # An offset large against the differences is where |e|^2 - 2 z.e in float32 loses its digits.
    generator = torch.Generator().manual_seed(seed)
    points = scale * torch.randn(entries, channels, generator=generator) + offset
    z = scale * torch.randn(2, channels, 3, 5, generator=generator) + offset
    codes = filled(points).nearest(z)
    assert codes.dtype == torch.int64
    assert codes.shape == (2, 3, 5)
    np.testing.assert_array_equal(codes.numpy(), brute_force(z, points))


@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=20, deadline=None)
def test_ties_go_to_the_lowest_code(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    points = torch.randn(37, 24, generator=generator)[
        torch.randint(37, (101,), generator=generator)
    ]
    z = torch.randn(1, 24, 4, 4, generator=generator)
    codes = filled(points).nearest(z)
    np.testing.assert_array_equal(codes.numpy(), brute_force(z, points))
    np.testing.assert_array_equal(filled(torch.zeros(9, 24)).nearest(z).numpy(), 0)


def test_chunks_autocast_and_layout_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    book = filled(torch.randn(64, 16))
    z = torch.randn(2, 16, 8, 8)
    codes = book.nearest(z)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(book.nearest(z), codes)
    assert torch.equal(book.nearest(z.contiguous(memory_format=torch.channels_last)), codes)
    monkeypatch.setattr(module, "_CHUNK", 100)
    assert torch.equal(book.nearest(z), codes)


def test_nothing_waits_for_the_device() -> None:
    """On the meta device, which has shapes alone, whatever needs a number in Python raises."""
    with torch.device("meta"):
        book, z, dead = Codebook(64, 16), torch.empty(2, 16, 8, 8), torch.ones(64).bool()
        quantized = book.quantize(z)
        book.revive_(dead, torch.empty(30, 16), torch.Generator())
        assert count_codes(quantized.codes, 64).shape == (64,)
    assert quantized.codes.shape == (2, 8, 8)


def test_codes_are_counted() -> None:
    codes = torch.randint(9, (3, 4, 5), generator=torch.Generator().manual_seed(0))
    assert torch.equal(count_codes(codes, 12), codes.flatten().bincount(minlength=12))


def test_starts_uniform_within_one_over_entries() -> None:
    torch.manual_seed(0)
    weight = Codebook(128, 64).embedding.weight.detach()
    assert weight.abs().max() <= 1 / 128
    assert weight.std() == pytest.approx(1 / 128 / 3**0.5, rel=0.05)


def test_quantize_gives_entries_losses_and_gradients() -> None:
    torch.manual_seed(0)
    book = filled(torch.randn(32, 8))
    z = torch.randn(2, 8, 4, 4, requires_grad=True)
    quantized = book.quantize(z)
    entries = book.lookup(quantized.codes)
    assert torch.equal(book.lookup(quantized.codes.to(torch.uint16)), entries)
    torch.testing.assert_close(quantized.values, entries)
    expected = (z - entries).square().mean()
    torch.testing.assert_close(quantized.codebook_loss, expected)
    torch.testing.assert_close(quantized.commitment_loss, expected)

    weight = book.embedding.weight
    into = torch.randn_like(z)
    to_z, to_book = torch.autograd.grad(
        quantized.values, (z, weight), into, retain_graph=True, allow_unused=True
    )
    assert torch.equal(to_z, into)
    assert to_book is None
    losses = quantized.codebook_loss, quantized.commitment_loss
    to_z, to_book = torch.autograd.grad(losses[0], (z, weight), allow_unused=True)
    assert to_z is None
    assert to_book.abs().sum() > 0
    to_z, to_book = torch.autograd.grad(losses[1], (z, weight), allow_unused=True)
    assert to_book is None
    torch.testing.assert_close(to_z, 2 * (z - entries) / z.numel())


def test_kmeans_ends_with_every_entry_the_mean_of_its_vectors() -> None:
    vectors = torch.randn(600, 4, generator=torch.Generator().manual_seed(0))
    book, again = Codebook(12, 4), Codebook(12, 4)
    book.kmeans_(vectors, 60, torch.Generator().manual_seed(1))
    again.kmeans_(vectors, 60, torch.Generator().manual_seed(1))
    entries = book.embedding.weight.detach()
    assert torch.equal(again.embedding.weight, entries)
    codes = torch.from_numpy(brute_force(vectors.t().reshape(1, 4, 20, 30), entries)).flatten()
    means = torch.stack([vectors[codes == code].mean(0) for code in range(12)])
    torch.testing.assert_close(entries, means)


def test_kmeans_lowers_the_error_each_time() -> None:
    vectors = torch.randn(500, 8, generator=torch.Generator().manual_seed(0))
    z = vectors.t().reshape(1, 8, 20, 25)
    errors = []
    for iterations in range(6):
        book = Codebook(16, 8)
        book.kmeans_(vectors, iterations, torch.Generator().manual_seed(1))
        errors.append(book.quantize(z).codebook_loss.item())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < errors[0]


def test_kmeans_with_as_many_vectors_as_entries_and_with_fewer() -> None:
    vectors = torch.randn(8, 3)
    book = Codebook(8, 3)
    book.kmeans_(vectors, 2, torch.Generator().manual_seed(0))
    assert book.quantize(vectors.t().reshape(1, 3, 2, 4)).codebook_loss < 1e-12
    with pytest.raises(ValueError, match="needs 8 vectors or more; found 7"):
        book.kmeans_(vectors[:7], 1, torch.Generator())


@given(dead=st.lists(st.booleans(), min_size=10, max_size=10), candidates=st.integers(1, 12))
@settings(max_examples=30, deadline=None)
def test_revival_moves_the_dead_alone(dead: list[bool], candidates: int) -> None:
    book = filled(torch.arange(30.0).view(10, 3))
    before = book.embedding.weight.detach().clone()
    vectors = -1 - torch.arange(3.0 * candidates).view(candidates, 3)
    mask = torch.tensor(dead)
    book.revive_(mask, vectors, torch.Generator().manual_seed(0))
    after = book.embedding.weight.detach()
    assert torch.equal(after[~mask], before[~mask])
    used = [vectors.tolist().index(row) for row in after[mask].tolist()]
    assert len(set(used)) == min(len(used), candidates)
    again = filled(before)
    again.revive_(mask, vectors, torch.Generator().manual_seed(0))
    assert torch.equal(again.embedding.weight, after)
