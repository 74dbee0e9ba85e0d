"""The image losses of stages 1 and 3."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.config.training import HR_ONLY, ImageLosses, Perceptual, TeacherShares
from tvqrap.losses.augmentation import View, view_of_step
from tvqrap.losses.blockiness import grid_loss
from tvqrap.losses.contrast import contrast_loss
from tvqrap.losses.gan import hinge_generator_loss, matching_loss
from tvqrap.losses.image_terms import chroma_loss, gradient_loss
from tvqrap.losses.perceptual_weights import perceptual_distance
from tvqrap.runtime.device import Precision, autocast
from tvqrap.training.batch import WHOLE_BATCH, Microbatch

Loss = Callable[[Tensor, Tensor], Tensor]
"""Loss of images against targets, both (N, 3, H, W) in [-1, 1]: a scalar."""

Discriminator = Callable[[Tensor], Sequence[Tensor]]
"""Images (N, 3, H, W) in [-1, 1] to features, and last the scores."""

Targets = Sequence[tuple[Tensor, float]]
"""Target images (N, 3, H, W), each with its share of a loss; shares sum to 1."""


@dataclass(frozen=True)
class ImageGradient:
    """Gradients of the image losses with respect to an image, or to a map that it depends on.

    The backward pass is split at the image. So one pass through the perceptual network and one
    through the discriminator suffice. The adaptive weight needs the gradients of both losses at a
    layer below before it can add them.
    """

    reconstruction: Tensor
    """Gradient of the weighted reconstruction terms; at the image, (N, 3, H, W)."""
    adversarial: Tensor | None
    """Gradient of the GAN term, unweighted; None if the term is not in use."""
    terms: dict[str, Tensor]
    """Each term's value, unweighted and detached."""


class ImageLoss(nn.Module):
    """Weighted sum of the losses between an image and its targets."""

    def __init__(
        self,
        settings: ImageLosses,
        perceptual: nn.Module | None,
        teacher: TeacherShares = HR_ONLY,
        precision: Precision = "float32",
    ) -> None:
        """Losses of an image; the perceptual network computes in `precision`.

        `teacher`: shares of the losses that compare with a teacher's image instead of HR.
        """
        super().__init__()
        self.settings = settings
        self.perceptual = perceptual
        self.precision: Precision = precision
        self.teacher = teacher
        self.pixel_losses: dict[str, tuple[float, Loss]] = {
            "mse": (settings.mse, F.mse_loss),
            "l1": (settings.l1, F.l1_loss),
            "gradient": (settings.gradient, gradient_loss),
            "chroma": (settings.chroma, chroma_loss),
            "grid": (settings.grid, grid_loss),
            "contrast": (settings.contrast, contrast_loss),
        }

    def gradients(
        self,
        image: Tensor,
        hr: Tensor,
        discriminator: Discriminator | None,
        judged: int | None = None,
        microbatch: Microbatch = WHOLE_BATCH,
        step: int = 0,
        teacher: Tensor | None = None,
    ) -> ImageGradient:
        """Returns the gradients of the losses of `image` against `hr`.

        Images are (N, 3, H, W) in [-1, 1]. They are a microbatch of a batch, and the losses are its
        contributions to those of the batch. The perceptual network and the discriminator see the
        first `judged` images of the batch (None: all). `step` chooses the augmentation of the
        perceptual loss. `teacher` holds the teacher's images of the same LR images, which are read
        if the shares ask for them.
        """
        whole = len(image) * microbatch.of
        judged = judged or whole
        leaf = image.detach().requires_grad_()
        terms: dict[str, Tensor] = {}
        total = leaf.new_zeros(())
        with torch.enable_grad():
            targets = _targets(hr, teacher, self.teacher.pixels)
            for name, (weight, loss) in self.pixel_losses.items():
                if weight or name == "mse":  # which the curves show in any case
                    terms[name] = _mean(loss, leaf, targets) / microbatch.of
                    total = total + weight * terms[name]
            if self.perceptual is not None and self.settings.perceptual.weight:
                seen = min(max(1, round(self.settings.perceptual.share * whole)), judged)
                targets = _targets(hr, teacher, self.teacher.perceptual)
                terms["perceptual"] = self._perceptual(leaf, targets, seen, microbatch, step)
                total = total + self.settings.perceptual.weight * terms["perceptual"]
            (reconstruction,) = torch.autograd.grad(total, leaf)
            adversarial = None
            if discriminator is not None:
                found = self._adversarial(leaf, hr, teacher, discriminator, judged, microbatch)
                (adversarial,) = torch.autograd.grad(
                    found["adversarial"]
                    + self.settings.adversarial.matching * found.get("matching", 0.0),
                    leaf,
                )
                terms |= found
        return ImageGradient(
            reconstruction, adversarial, {name: term.detach() for name, term in terms.items()}
        )

    def _adversarial(
        self,
        image: Tensor,
        hr: Tensor,
        teacher: Tensor | None,
        discriminator: Discriminator,
        judged: int,
        microbatch: Microbatch,
    ) -> dict[str, Tensor]:
        """The terms of the GAN loss over those images that are among the batch's first `judged`."""
        count, weight = microbatch.leading(judged), microbatch.weight(judged)
        *features, scores = discriminator(image[:count])
        terms = {"adversarial": hinge_generator_loss(scores) * weight}
        if self.settings.adversarial.matching:
            with torch.no_grad():
                *wanted, _ = discriminator(self.real(hr, teacher)[:count])
            terms["matching"] = matching_loss(features, wanted) * weight
        return terms

    def real(self, hr: Tensor, teacher: Tensor | None) -> Tensor:
        """The images that the discriminator takes for real: HR, or the teacher's."""
        ((real, _),) = _targets(hr, teacher, float(self.teacher.adversarial))
        return real

    def _perceptual(
        self, image: Tensor, targets: Targets, seen: int, microbatch: Microbatch, step: int
    ) -> Tensor:
        """Perceptual loss over those images that are among the batch's first `seen`."""
        perceptual = self.perceptual
        count = microbatch.leading(seen)
        if perceptual is None or not count:
            return image.new_zeros(())
        view = view_of_step(step) if self.settings.perceptual.augment else View()
        with autocast(image.device, self.precision):
            distance = _mean(
                lambda viewed, target: perceptual(viewed, view.of(target[:count])).mean(),
                view.of(image[:count]),
                targets,
            )
        return distance * microbatch.weight(seen)


def perceptual_for(
    settings: Perceptual, device: torch.device, dtype: torch.dtype
) -> nn.Module | None:
    """Returns the network of the perceptual loss, None if its weight is 0.

    Raises:
        UserError: The network's weights are missing.
    """
    if not settings.weight:
        return None
    return perceptual_distance(settings.network).to(device, dtype)


def _targets(hr: Tensor, teacher: Tensor | None, share: float) -> Targets:
    if not share:
        return [(hr, 1.0)]
    assert teacher is not None, "the losses read teacher images, which were not loaded"
    return [(teacher, share)] if share == 1 else [(hr, 1 - share), (teacher, share)]


def _mean(loss: Loss, image: Tensor, targets: Targets) -> Tensor:
    return reduce(torch.add, [share * loss(image, target) for target, share in targets])
