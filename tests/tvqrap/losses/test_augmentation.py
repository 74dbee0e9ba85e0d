"""Views: what a perceptual distance is shown of a pair of images."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

from tvqrap.losses.augmentation import View, view_of_step
from tvqrap.losses.perceptual import SMALLEST_SIDE
from tvqrap.losses.perceptual_weights import stlpips


@settings(max_examples=50, deadline=None)
@given(step=st.integers(0, 2**31), height=st.integers(16, 80), width=st.integers(16, 80))
def test_a_view_is_an_image_of_the_same_range(step: int, height: int, width: int) -> None:
    generator = torch.Generator().manual_seed(step)
    images = torch.rand(2, 3, height, width, generator=generator) * 2 - 1
    view = view_of_step(step)
    assert view == view_of_step(step)
    seen = view.of(images)
    assert seen.abs().max() <= 1 + 1e-6
    sides = (width, height) if view.transposed else (height, width)
    for ours, whole in zip(seen.shape[2:], sides, strict=True):
        smaller = max(round(view.size * whole), min(whole, SMALLEST_SIDE))
        assert ours == (whole if view.size >= 1 else smaller)


def test_views_differ_and_all_kinds_come() -> None:
    views = [view_of_step(step) for step in range(400)]
    assert len(set(views)) == len(views)
    for kind in ("mirrored", "upside_down", "transposed"):
        assert 140 < sum(getattr(view, kind) for view in views) < 260
    assert {view.channels for view in views} == {
        (a, b, 3 - a - b) for a in range(3) for b in range(3) if a != b
    }
    sizes = [view.size for view in views]
    assert 60 < sizes.count(1.0) < 140
    assert 0.5 <= min(sizes) < 0.55 and 1.8 < max(sizes) <= 2
    assert 100 < sum(size > 1 for size in sizes) < 200
    assert all(0.6 <= view.brightness <= 1 for view in views)


def test_each_change_is_what_it_says() -> None:
    image = torch.rand(1, 3, 24, 32) * 2 - 1
    assert View().of(image) is image
    assert torch.equal(View(mirrored=True).of(image)[..., 0], image[..., -1])
    assert torch.equal(View(upside_down=True).of(image)[..., 0, :], image[..., -1, :])
    assert torch.equal(View(transposed=True).of(image)[0, 1, 5, 7], image[0, 1, 7, 5])
    assert torch.equal(View(channels=(2, 0, 1)).of(image)[:, 0], image[:, 2])
    black = torch.full_like(image, -1)
    assert torch.equal(View(brightness=0.7).of(black), black)
    torch.testing.assert_close(View(brightness=0.5).of(-black), torch.zeros_like(image))


def test_of_larger_images_a_part_is_seen() -> None:
    image = torch.rand(1, 3, 32, 64) * 2 - 1
    for place, part in (((0.0, 0.0), image[..., :16, :32]), ((1.0, 0.5), image[..., 16:, 16:48])):
        seen = View(size=2.0, place=place).of(image)
        assert seen.shape == image.shape
        enlarged = F.interpolate(part, image.shape[2:], mode="bilinear")
        torch.testing.assert_close(seen, enlarged)


@pytest.mark.parametrize("step", range(4))
def test_a_distance_sees_a_view(step: int) -> None:
    image = (torch.rand(1, 3, 32, 32) * 2 - 1).requires_grad_()
    view = view_of_step(step)
    distance = stlpips("alex")(view.of(image), view.of(image.detach().flip(1))).mean()
    (gradient,) = torch.autograd.grad(distance, image)
    assert gradient.isfinite().all() and gradient.abs().max() > 0
