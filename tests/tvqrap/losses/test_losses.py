"""The contrast, chroma and GAN losses against their definitions."""

import pytest
import torch

from tvqrap.losses.contrast import contrast_loss
from tvqrap.losses.gan import adaptive_weight, matching_loss
from tvqrap.losses.image_terms import chroma_loss


def edge(blur: float = 0.0, size: int = 48) -> torch.Tensor:
    """A slanted edge between dark and light (1, 3, H, W), `blur` pixels to either side."""
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    away = 0.9 * (x - size / 2) + 0.45 * (y - size / 2)
    return (0.5 * (away / (0.5 + blur)).clamp(-1, 1)).expand(1, 3, size, size)


def test_contrast_is_asked_for_where_it_can_be_known() -> None:
    generator = torch.Generator().manual_seed(0)
    even = torch.full((1, 3, 48, 48), 0.2, requires_grad=True)
    noise = torch.randn(1, 1, 48, 48, generator=generator)
    texture = even.detach() + 0.05 * noise
    assert contrast_loss(even, even.detach()) == 0
    # Noise on an even surface, in both directions; half a level is none.
    assert contrast_loss(texture, even) > 3
    assert contrast_loss(even + 0.5 / 255 * noise, even) < 0.2
    # Of a texture that is e times too strong, the logarithm in both.
    stronger = even.detach() + 0.05 * torch.e * noise
    torch.testing.assert_close(contrast_loss(stronger, texture).item(), 2.0, rtol=0.03, atol=0)
    # Blur of an edge counts, more blur more; of a texture, whose directions are chance, little.
    sharp = edge()
    assert 0 < contrast_loss(edge(0.5), sharp) < contrast_loss(edge(1.5), sharp)
    weaker = even.detach() + 0.05 / torch.e * noise
    assert contrast_loss(weaker, texture) < 0.25
    (gradient,) = torch.autograd.grad(contrast_loss(even, texture), even)
    assert gradient.isfinite().all()


def test_dots_along_an_edge_count_more_than_a_line() -> None:
    y, x = torch.meshgrid(torch.arange(48), torch.arange(48), indexing="ij")
    sharp = (0.5 * ((y - 24) / 2).clamp(-1, 1)).expand(1, 3, 48, 48)
    at_edge = (y - 24).abs() < 2
    dots = torch.where(at_edge & (x % 4 < 2), 0.2, 0.0)
    line = torch.where(at_edge, dots.square().mean().sqrt() / at_edge.float().mean().sqrt(), 0.0)
    torch.testing.assert_close(dots.square().mean(), line.square().mean())
    dotted = contrast_loss(sharp + dots, sharp)
    assert dotted > 3 * contrast_loss(sharp + line, sharp)
    # It knows no left from right, and no axis from another.
    for turned in (lambda image: image.flip(3), lambda image: image.mT):
        again = contrast_loss(turned(sharp + dots), turned(sharp))
        torch.testing.assert_close(again, dotted, rtol=1e-4, atol=0)


def test_contrast_equals_its_definition_written_out() -> None:
    torch.manual_seed(0)
    image, target = torch.rand(2, 3, 9, 8, dtype=torch.float64).mul(2).sub(1).unbind(0)

    def products(one: torch.Tensor, top: int, left: int) -> tuple[torch.Tensor, float]:
        """(structure tensor, mean square of the chessboard) of 5x5 places from (top, left) on."""
        tensor, chessboard = torch.zeros(2, 2, dtype=torch.float64), 0.0
        for v in range(top, top + 5):
            for u in range(left, left + 5):
                for (a, b), (c, d) in one[:, v : v + 2, u : u + 2].tolist():
                    both = torch.tensor([b + d - a - c, c + d - a - b], dtype=torch.float64) / 2
                    tensor += torch.outer(both, both) / 75
                    chessboard += ((a + d - b - c) / 2) ** 2 / 75
        return tensor, chessboard

    total, places = 0.0, [(y, x) for y in range(9 - 5) for x in range(8 - 5)]
    for place in places:
        (ours, chess), (theirs, their_chess) = products(image, *place), products(target, *place)
        values, vectors = torch.linalg.eigh(theirs)
        ratios = [
            float((axis @ ours @ axis + chess + (2 / 255) ** 2).log())
            - float((axis @ theirs @ axis + their_chess + (2 / 255) ** 2).log())
            for axis in vectors.T
        ]
        along, across = (ratio / 2 for ratio in ratios)
        coherence = float((values[1] - values[0]) / (values.sum() + (2 / 255) ** 2))
        total += max(along, 0) + max(across, 0) + coherence**2 * max(-across, 0)
    assert total > 0
    wanted = total / len(places)
    torch.testing.assert_close(contrast_loss(image[None], target[None]).item(), wanted)


def test_chroma_is_blind_to_brightness_and_sees_colour() -> None:
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    assert chroma_loss(image + 0.3, image) < 1e-6
    redder = image + torch.tensor([0.2, 0.0, 0.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(chroma_loss(redder, image), torch.tensor(0.3))


def test_adaptive_weight_is_the_clamped_ratio_of_norms() -> None:
    ours, theirs = torch.tensor([3.0, 4.0]), torch.tensor([0.0, 2.0])
    torch.testing.assert_close(adaptive_weight(ours, theirs), torch.tensor(5 / (2 + 1e-4)))
    assert adaptive_weight(ours * 1e9, theirs) == 1e4
    assert adaptive_weight(ours, theirs * 0) == pytest.approx(1e4)


def test_matching_is_relative_to_each_image_and_layer() -> None:
    wanted = [torch.full((2, 3, 4, 4), 2.0), torch.full((2, 5, 2, 2), 10.0)]
    wanted[0][1] *= 100
    found = [wanted[0] * 1.5, wanted[1] * 0.9]
    torch.testing.assert_close(matching_loss(found, wanted), torch.tensor((0.5 + 0.1) / 2))
    assert matching_loss(wanted, wanted) == 0
    dark = [torch.zeros(1, 3, 4, 4)]
    assert matching_loss(dark, dark) == 0, "features that are 0 divide nothing by 0"
