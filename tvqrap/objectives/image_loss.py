"""The perceptual network that the settings ask for."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.config.training import PHOTOS_ALONE, ImageLosses, Perceptual, TeacherShares
from tvqrap.losses.augmentation import View, view_of_step
from tvqrap.losses.blockiness import grid_loss
from tvqrap.losses.contrast import contrast_loss
from tvqrap.losses.gan import hinge_generator_loss
from tvqrap.losses.image_terms import chroma_loss, gradient_loss
from tvqrap.losses.perceptual_weights import perceptual_distance
from tvqrap.training.batch import WHOLE_BATCH, Microbatch


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
"""A scalar loss of an image against a target."""


def _targets(hr: Tensor, teacher: Tensor | None, share: float) -> list[tuple[Tensor, float]]:
    """The targets of a loss, each with its share; those whose share is 0 are left out."""
    if not share:
        return [(hr, 1.0)]
    assert teacher is not None, "these losses read teacher's images, which were not loaded"
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
        """`shares`: shares of the losses that compare with a teacher's image in place of HR."""
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
        part: Microbatch = WHOLE_BATCH,
        step: int = 0,
        teacher: Tensor | None = None,
    ) -> ImageGradient:
        """Gradients of the losses of `image` against `target`, both (N, 3, H, W) in [-1, 1].

        `teacher` is the teacher's image of the same LR image. Each term is the sum of the losses
        against both targets, weighted by their shares.

        The images are a part of a batch, the losses what they contribute to the batch's. The
        perceptual network and the discriminator see the batch's first `judged` images (none: all),
        the network in the view of `step` where views vary.
        """
        judged = judged or len(image) * part.of
        leaf = image.detach().requires_grad_()
        terms: dict[str, Tensor] = {}
        total = leaf.new_zeros(())
        with torch.enable_grad():
            for name, weight, term in self._pixel_terms(leaf, target, teacher):
                terms[name] = term / part.of
                total = total + weight * terms[name]
            if self.perceptual is not None and self.settings.perceptual.weight:
                terms["perceptual"] = self._perceptual_term(
                    self.perceptual, leaf, target, teacher, judged, part, step
                )
                total = total + self.settings.perceptual.weight * terms["perceptual"]
            (reconstruction,) = torch.autograd.grad(total, leaf)
            adversarial = None
            if discriminator is not None:
                outputs = discriminator(leaf[: part.leading(judged)])
                terms["adversarial"] = hinge_generator_loss(outputs) * part.weight(judged)
                (adversarial,) = torch.autograd.grad(terms["adversarial"], leaf)
        return ImageGradient(
            reconstruction, adversarial, {name: term.detach() for name, term in terms.items()}
        )

    def _pixel_terms(
        self, image: Tensor, hr: Tensor, teacher: Tensor | None
    ) -> Iterator[tuple[str, float, Tensor]]:
        """(name, weight, value) of the losses between pixels; MSE is recorded at weight 0 too."""
        settings = self.settings
        targets = _targets(hr, teacher, self.shares.pixels)
        losses: tuple[tuple[str, float, Loss], ...] = (
            ("mse", settings.mse, F.mse_loss),
            ("l1", settings.l1, F.l1_loss),
            ("gradient", settings.gradient, gradient_loss),
            ("chroma", settings.chroma, chroma_loss),
            ("grid", settings.grid, grid_loss),
            ("contrast", settings.contrast, contrast_loss),
        )
        for name, weight, loss in losses:
            if weight or name == "mse":
                yield name, weight, _mean(loss, image, targets)

    def _perceptual_term(
        self,
        perceptual: nn.Module,
        image: Tensor,
        hr: Tensor,
        teacher: Tensor | None,
        judged: int,
        part: Microbatch,
        step: int,
    ) -> Tensor:
        """Perceptual distance of the part's images among the leading share of the batch."""
        settings = self.settings.perceptual
        seen = min(max(1, round(settings.share * len(image) * part.of)), judged)
        count = part.leading(seen)
        if not count:
            return image.new_zeros(())
        view = view_of_step(step) if settings.augment else View()
        distance = _mean(
            lambda made, target: perceptual(made, view.of(target[:count])).mean(),
            view.of(image[:count]),
            _targets(hr, teacher, self.shares.perceptual),
        )
        return distance * part.weight(seen)


def perceptual_for(settings: Perceptual) -> nn.Module | None:
    """The loss network, none where its weight is 0.

    Raises `UserError` where its weights are missing.
    """
    return perceptual_distance(settings.network) if settings.weight else None
