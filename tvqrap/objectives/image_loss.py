"""The perceptual network that the settings ask for."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.config.training import ImageLosses, Perceptual
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


class ImageLoss(nn.Module):
    """The image losses of stages 1 and 3."""

    def __init__(self, settings: ImageLosses, perceptual: nn.Module | None) -> None:
        super().__init__()
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
    ) -> ImageGradient:
        """Gradients of the losses of `image` against `target`, both (N, 3, H, W) in [-1, 1].

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
        with torch.enable_grad():
            terms["mse"] = F.mse_loss(leaf, target) / part.of
            total = total + settings.mse * terms["mse"]
            if settings.l1:
                terms["l1"] = F.l1_loss(leaf, target) / part.of
                total = total + settings.l1 * terms["l1"]
            if settings.gradient:
                terms["gradient"] = gradient_loss(leaf, target) / part.of
                total = total + settings.gradient * terms["gradient"]
            if settings.chroma:
                terms["chroma"] = chroma_loss(leaf, target) / part.of
                total = total + settings.chroma * terms["chroma"]
            if settings.grid:
                terms["grid"] = grid_loss(leaf, target) / part.of
                total = total + settings.grid * terms["grid"]
            if settings.contrast:
                terms["contrast"] = contrast_loss(leaf, target) / part.of
                total = total + settings.contrast * terms["contrast"]
            if self.perceptual is not None and settings.perceptual.weight:
                seen = min(max(1, round(settings.perceptual.share * whole)), judged)
                terms["perceptual"] = leaf.new_zeros(())
                if count := part.leading(seen):
                    view = view_of_step(step) if settings.perceptual.augment else View()
                    distance = self.perceptual(view.of(leaf[:count]), view.of(target[:count]))
                    terms["perceptual"] = distance.mean() * part.weight(seen)
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


def perceptual_for(settings: Perceptual) -> nn.Module | None:
    """The loss network, none where its weight is 0.

    Raises `UserError` where its weights are missing.
    """
    return perceptual_distance(settings.network) if settings.weight else None
