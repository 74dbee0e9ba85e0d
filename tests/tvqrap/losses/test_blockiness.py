"""Grids: what is measured and what is not."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tvqrap.losses.blockiness import grid_loss, grid_strength


def test_grid_equals_its_definition_written_out() -> None:
    torch.manual_seed(0)
    image, target = torch.rand(2, 2, 3, 19, 27, dtype=torch.float64).mul(2).sub(1).unbind(0)

    def shares(one: Tensor) -> list[float]:
        """Of one image (C, H, W): 8 of the columns, 8 of the rows."""
        found = []
        for steps in (one[:, :, 1:] - one[:, :, :-1], (one[:, 1:] - one[:, :-1]).mT):
            whole = steps.shape[2] // 8 * 8
            places = [steps[:, :, k:whole:8].abs().mean().item() for k in range(8)]
            found += [place / (sum(places) / 8 + 1 / 255) for place in places]
        return found

    wanted = 0.0
    for ours, theirs in zip(image, target, strict=True):
        pairs = zip(shares(ours), shares(theirs), strict=True)
        wanted += sum((a - b) ** 2 for a, b in pairs) / 8 / len(image)
    assert wanted > 0
    torch.testing.assert_close(grid_loss(image, target).item(), wanted)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32 - 1), side=st.sampled_from([2, 4, 8]))
def test_grid_sees_squares_and_no_content(seed: int, side: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    smooth = torch.rand(1, 3, 24, 24, generator=generator)
    photo = nn.functional.interpolate(smooth, size=(128, 128), mode="bicubic")
    other = photo.flip(2).roll(5, 3)
    squares = nn.functional.interpolate(photo[..., ::side, ::side], scale_factor=side)
    assert grid_loss(photo, photo) == 0
    assert grid_loss(squares, photo) > 1 > 10 * grid_loss(other, photo)
    # Where the target lies on such a grid itself (an old JPEG file), it is no fault.
    assert grid_loss(squares, squares) == 0


def test_grid_of_an_even_image_is_nothing_and_its_gradient_finite() -> None:
    even = torch.full((1, 3, 64, 64), 0.3, requires_grad=True)
    loss = grid_loss(even, even.detach())
    (gradient,) = torch.autograd.grad(loss, even)
    assert loss == 0
    assert gradient.isfinite().all()


def test_grid_strength_is_of_each_image_and_the_same_in_columns_and_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    noise = torch.rand(1, 3, 128, 128, generator=generator) * 2 - 1
    squares = noise[..., ::4, ::4].repeat_interleave(4, 2).repeat_interleave(4, 3)
    both = grid_strength(torch.cat((noise, squares)))
    assert both[0] < 0.02
    # A difference at every fourth place alone.
    assert both[1].item() == pytest.approx(3**0.5, rel=0.05)
    torch.testing.assert_close(grid_strength(squares.mT), both[1:])
    torch.testing.assert_close(grid_strength(squares / 2), both[1:], rtol=0.05, atol=0)


@pytest.mark.parametrize("measure", [grid_strength, lambda image: grid_loss(image, image)])
def test_an_image_too_small_for_a_grid_is_refused(measure: Callable[[Tensor], Tensor]) -> None:
    measure(torch.zeros(1, 3, 9, 9))
    with pytest.raises(ValueError, match="from 9 pixels a side on"):
        measure(torch.zeros(1, 3, 9, 8))
