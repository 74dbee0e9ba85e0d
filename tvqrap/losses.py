"""Losses of the three training stages (paper, sections 3.2 to 3.4)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.grid import grid_loss
from tvqrap.training.part import WHOLE, Part
from tvqrap.training.settings import PHOTOS_ALONE, ImageLosses, TeacherShares
from tvqrap.views import View, view_of_step

ADAPTIVE_LIMIT = 1e4
ADAPTIVE_EPSILON = 1e-4
_WINDOW = 5
_LEVEL = 2 / 255


def gradient_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 between the horizontal and vertical differences of two images (N, C, H, W)."""
    difference = image - target
    return difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()


def chroma_loss(image: Tensor, target: Tensor) -> Tensor:
    """L1 between the colours of two RGB images (N, 3, H, W), whatever their brightness.

    Colours are R - G and (R + G) / 2 - B. They hold a small part of a photograph's energy: a loss
    over RGB alone learns them long after the brightness.
    """
    red, green, blue = (image - target).unbind(1)
    return (red - green).abs().mean() + ((red + green) / 2 - blue).abs().mean()


def contrast_loss(image: Tensor, target: Tensor) -> Tensor:
    """How far an image's contrast is from its target's, direction by direction: a scalar.

    Contrast along a direction is the root mean square of differences (N, C, H, W, in [-1, 1]) over
    5x5 places of 2x2 pixels (sides 6 or more), never under one level of 8-bit pixels. At each place
    it is looked at across and along what the target shows there, the axes of the target's structure
    tensor. What counts is the logarithm of its ratio to the target's: above 0 in both directions,
    which is noise on even surfaces and dots along edges; below 0 across alone, by the square of the
    target's coherence, which is blur of edges. What a texture lacks counts nothing: a network that
    cannot know it would fill it with noise. A perceptual distance hardly minds any of these.
    """
    ours, theirs = _structure_tensor(image), _structure_tensor(target)
    angle = torch.atan2(2 * theirs.mixed, theirs.right - theirs.down) / 2
    across, along = (angle.cos(), angle.sin()), (-angle.sin(), angle.cos())
    lack = _log_contrast(theirs, *across) - _log_contrast(ours, *across)
    dotted = _log_contrast(ours, *along) - _log_contrast(theirs, *along)
    return (lack.neg().relu() + dotted.relu() + _coherence(theirs).square() * lack.relu()).mean()


class _StructureTensor(NamedTuple):
    """Mean products of the differences in 2x2 pixels, each (N, 1, h, w)."""

    right: Tensor
    down: Tensor
    mixed: Tensor
    diagonal: Tensor
    """Of what alternates like a chessboard, which has no direction."""


def _structure_tensor(image: Tensor) -> _StructureTensor:
    a, b = image[..., :-1, :-1], image[..., :-1, 1:]
    c, d = image[..., 1:, :-1], image[..., 1:, 1:]
    right, down, diagonal = (b + d - a - c) / 2, (c + d - a - b) / 2, (a + d - b - c) / 2

    def pooled(products: Tensor) -> Tensor:
        return F.avg_pool2d(products.mean(1, keepdim=True), _WINDOW, stride=1)

    return _StructureTensor(
        pooled(right.square()), pooled(down.square()), pooled(right * down), pooled(diagonal**2)
    )


def _log_contrast(tensor: _StructureTensor, x: Tensor, y: Tensor) -> Tensor:
    """Along the unit vectors (x, y)."""
    squares = x * x * tensor.right + 2 * x * y * tensor.mixed + y * y * tensor.down
    return (squares.relu() + tensor.diagonal + _LEVEL**2).log() / 2


def _coherence(tensor: _StructureTensor) -> Tensor:
    """From 0, where no direction is another than the others, to 1 at a straight edge."""
    difference, total = tensor.right - tensor.down, tensor.right + tensor.down
    return (difference.square() + 4 * tensor.mixed.square()).sqrt() / (total + _LEVEL**2)


def hinge_discriminator_loss(real: Tensor, fake: Tensor) -> Tensor:
    """Mean of the hinge terms of the discriminator's outputs on real and on made images."""
    return 0.5 * (F.relu(1 - real).mean() + F.relu(1 + fake).mean())


def hinge_generator_loss(fake: Tensor) -> Tensor:
    """What the maker of images minimises: minus the discriminator's mean output."""
    return -fake.mean()


def adaptive_weight(reconstruction_gradient: Tensor, adversarial_gradient: Tensor) -> Tensor:
    """Weight that gives the GAN term the size of the reconstruction terms at one layer.

    Ratio of the gradients' norms, with 1e-4 under the ratio, clamped to [0, 1e4].
    """
    ratio = reconstruction_gradient.norm() / (adversarial_gradient.norm() + ADAPTIVE_EPSILON)
    return ratio.clamp(0, ADAPTIVE_LIMIT).detach()


@dataclass(frozen=True)
class ImageGradient:
    """Losses between a made image and HR, as gradients at the image.

    Splitting the backward pass at the image means that the perceptual network and the
    discriminator are passed through once each, although the adaptive weight needs the gradients
    of both losses further down before it can add them.
    """

    reconstruction: Tensor
    """Gradient of the weighted reconstruction terms (N, 3, H, W)."""
    adversarial: Tensor | None
    """Gradient of the GAN term, neither weighted nor scaled; none where it is not used."""
    terms: dict[str, Tensor]
    """Each term's value, unweighted and detached."""


Loss = Callable[[Tensor, Tensor], Tensor]
"""Of an image against a target, a scalar."""


def _targets(hr: Tensor, teacher: Tensor | None, share: float) -> list[tuple[Tensor, float]]:
    """The targets of a loss, each with its share; those whose share is 0 are left out."""
    if not share:
        return [(hr, 1.0)]
    assert teacher is not None, "these losses read teacher's pictures, which were not loaded"
    return [(teacher, share)] if share == 1 else [(hr, 1 - share), (teacher, share)]


def _mean(loss: Loss, image: Tensor, targets: Sequence[tuple[Tensor, float]]) -> Tensor:
    """Mean of a loss over targets, weighted by their shares."""
    return reduce(torch.add, [share * loss(image, target) for target, share in targets])


class ImageLoss(nn.Module):
    """The image losses of stages 1 and 3."""

    def __init__(
        self,
        settings: ImageLosses,
        perceptual: nn.Module | None,
        shares: TeacherShares = PHOTOS_ALONE,
    ) -> None:
        """`shares`: what of the losses compares with a teacher's picture in place of HR."""
        super().__init__()
        self.shares = shares
        self.settings = settings
        self.perceptual = perceptual

    def gradients(
        self,
        image: Tensor,
        target: Tensor,
        discriminator: Callable[[Tensor], Tensor] | None,
        judged: int | None = None,
        part: Part = WHOLE,
        step: int = 0,
        teacher: Tensor | None = None,
    ) -> ImageGradient:
        """Gradients of the losses of `image` against `target`, both (N, 3, H, W) in [-1, 1].

        `teacher` is the teacher's picture of the same LR image, which the shares ask for. A term is
        the sum of the losses against both targets, each times its share.

        The images are a part of a batch, the losses what they contribute to the batch's. The
        perceptual network and the discriminator see the batch's first `judged` images (none: all),
        the network in the view of `step` where views vary.
        """
        settings = self.settings
        whole = len(image) * part.of
        judged = judged or whole
        leaf = image.detach().requires_grad_()
        terms: dict[str, Tensor] = {}
        total = leaf.new_zeros(())
        targets = _targets(target, teacher, self.shares.pixels)
        pixel_losses: dict[str, tuple[float, Loss]] = {
            "l1": (settings.l1, F.l1_loss),
            "gradient": (settings.gradient, gradient_loss),
            "chroma": (settings.chroma, chroma_loss),
            "grid": (settings.grid, grid_loss),
            "contrast": (settings.contrast, contrast_loss),
        }
        with torch.enable_grad():
            terms["mse"] = _mean(F.mse_loss, leaf, targets) / part.of
            total = total + settings.mse * terms["mse"]
            for name, (weight, loss) in pixel_losses.items():
                if weight:
                    terms[name] = _mean(loss, leaf, targets) / part.of
                    total = total + weight * terms[name]
            if (perceptual := self.perceptual) is not None and settings.perceptual.weight:
                seen = min(max(1, round(settings.perceptual.share * whole)), judged)
                terms["perceptual"] = leaf.new_zeros(())
                if count := part.leading(seen):
                    view = view_of_step(step) if settings.perceptual.varied else View()
                    distance = _mean(
                        lambda image, target: perceptual(image, view.of(target[:count])).mean(),
                        view.of(leaf[:count]),
                        _targets(target, teacher, self.shares.perceptual),
                    )
                    terms["perceptual"] = distance * part.weight(seen)
                total = total + settings.perceptual.weight * terms["perceptual"]
            (reconstruction,) = torch.autograd.grad(total, leaf)
            adversarial = None
            if discriminator is not None:
                outputs = discriminator(leaf[: part.leading(judged)])
                terms["adversarial"] = hinge_generator_loss(outputs) * part.weight(judged)
                (adversarial,) = torch.autograd.grad(terms["adversarial"], leaf)
        return ImageGradient(
            reconstruction, adversarial, {name: term.detach() for name, term in terms.items()}
        )
