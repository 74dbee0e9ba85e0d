"""Stage 3: reconstruction-aware prediction (paper, section 3.2).

The predictor is fine-tuned through the frozen decoder with image losses. Its code choice is a
straight-through one-hot. The image losses train the structure head too, through the decoded
structure; the code head receives a detached copy of it.

Three params depart from the paper. `train_decoder` trains the decoder, which has seen the codes of
HR images alone, on predicted codes. Soft `assignment` gives the decoder the mean entry, whose
gradient the one-hot borrows. `teacher` compares with a teacher's image instead of, or beside, HR.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from tvqrap.config.training import Compute, RapTraining
from tvqrap.networks.tokenizer import join
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.image_losses.adversary import Adversary, adversary_for, begin
from tvqrap.objectives.image_losses.image_loss import ImageGradient, ImageLoss, perceptual_for
from tvqrap.objectives.predictor import chosen_codes
from tvqrap.objectives.token_losses import code_loss, token_losses
from tvqrap.runtime.device import to_float32
from tvqrap.training.batch import Batch, Microbatch, add_terms
from tvqrap.training.codebook_usage import CodeUsage
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.learner import Learner
from tvqrap.training.validation import ImageScores, Validation, picture


class RapTask:
    """Trains the predictor, and the decoder if asked, of an upscaler that is frozen otherwise."""

    def __init__(
        self,
        network: UpscalerNetwork,
        settings: RapTraining,
        compute: Compute,
        *,
        validation: Sequence[Batch],
        workers: Workers = ALONE,
    ) -> None:
        network.freeze()
        network.assignment = settings.assignment
        network.decoder.requires_grad_(settings.train_decoder)
        self.settings = settings
        self.network = network
        self.learner = Learner(
            network,
            settings.optimiser,
            compute,
            steps=settings.steps,
            own_rates={"decoder": settings.decoder_lr_factor} if settings.train_decoder else None,
            workers=workers,
        )
        device, dtype = self.learner.device, self.learner.dtype
        self.image_loss = ImageLoss(
            settings.image,
            perceptual_for(settings.image.perceptual, device, dtype),
            settings.teacher,
            compute.precision,
        )
        self.adversary = adversary_for(settings.image.adversarial, self.learner)
        self.usage = CodeUsage(network.architecture.codebook, device)
        self.validation = validation
        # Drawn last, so that the initial weights of the discriminator do not depend on it.
        self.scores = ImageScores(device, dtype)

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Takes one step on pairs and, where token losses are used, the tokens of the HR images."""
        self.learner.begin(step)
        adversary = begin(self.adversary, step)
        terms: dict[str, Tensor] = {}
        counts = torch.zeros_like(self.usage.window)
        for microbatch, samples in self.learner.microbatches(batch):
            add_terms(terms, self._accumulate(samples, microbatch, step, adversary, counts))
        self.usage.add(counts, self.learner.workers)
        terms = self.learner.finish(terms, {} if adversary is None else adversary.sum_gradients())
        if adversary is not None:
            adversary.apply_gradients()
        return terms

    def _accumulate(
        self,
        batch: Batch,
        microbatch: Microbatch,
        step: int,
        adversary: Adversary | None,
        counts: Tensor,
    ) -> dict[str, Tensor]:
        """Adds a microbatch's gradients and code counts; returns its terms.

        The losses give a gradient at the image. From there one backward pass goes through the
        network, beside those that the adaptive weight needs.
        """
        learner, network = self.learner, self.network
        hr = learner.image(batch.hr)
        teacher = learner.image(batch.teacher) if self.settings.teacher.any else None
        with learner.autocast():
            prediction = network.predict(learner.image(batch.lr))
            texture = network.straight_through_texture(prediction.logits)
            decoder_input = join(prediction.decoded_structure, texture)
            image = to_float32(network.decoder(decoder_input))
        counts += chosen_codes(prediction)
        gradient = self.image_loss.gradients(
            image,
            hr,
            None if adversary is None else adversary.features,
            microbatch=microbatch,
            step=step,
            teacher=teacher,
        )
        terms = dict(gradient.terms)
        end: Tensor = image
        last: Tensor = network.decoder[-1].get_parameter("weight")
        if not self.settings.train_decoder:
            end, last = decoder_input, network.predictor.code_head.score.weight
            gradient = _at_decoder_input(image, decoder_input, gradient)
        at_end = gradient.reconstruction
        if adversary is not None:
            at_end = adversary.weighted_gradient(end, last, gradient, microbatch, terms)
        if batch.codes is None:
            end.backward(at_end)
        else:
            loss, found = token_losses(prediction, batch, self.settings.loss_weights)
            terms |= {name: term / microbatch.of for name, term in found.items()}
            loss = loss / microbatch.of
            torch.autograd.backward([end, loss], [at_end, torch.ones_like(loss)])
        if adversary is not None:
            real = self.image_loss.real(hr, teacher)
            terms |= adversary.accumulate(real, image, 1 / microbatch.of)
        return terms

    def health(self) -> tuple[dict[str, float], str | None]:
        """Returns use of codes and learning rate; a small use gives no warning here."""
        return {**self.learner.health(), **self.usage.look()}, None

    @torch.no_grad()
    def validate(self) -> Validation:
        """Scores validation pairs that the averaged weights upscale."""
        pairs = []
        accuracies: list[float] = []
        for batch in self.validation:
            network = self.learner.average.module
            with self.learner.autocast():
                prediction = network.predict(self.learner.image(batch.lr))
                image = network.decode(prediction)
            pairs.append((to_float32(image), self.learner.image(batch.hr)))
            if batch.codes is not None:
                accuracies += [code_loss(prediction, batch)[1].item()] * len(batch.keys)
        scores = self.scores(pairs)
        if accuracies:
            scores["code_accuracy"] = sum(accuracies) / len(accuracies)
        lr = self.learner.image(self.validation[0].lr)
        return Validation(scores, picture(lr, *pairs[0]))

    def state(self) -> dict[str, Any]:
        """Returns everything that the next update depends on."""
        return {
            "learner": self.learner.state(),
            "adversary": self.adversary.state() if self.adversary else None,
            "usage": self.usage.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
        self.learner.load_state(state["learner"])
        self.usage.load_state(state["usage"])
        if self.adversary and state["adversary"]:  # none where the GAN term was added since
            self.adversary.load_state(state["adversary"])


def _at_decoder_input(
    image: Tensor, decoder_input: Tensor, gradient: ImageGradient
) -> ImageGradient:
    """Passes the gradients at the image back through the frozen decoder, one pass for each."""
    adversarial = gradient.adversarial
    (reconstruction,) = torch.autograd.grad(
        image, decoder_input, gradient.reconstruction, retain_graph=adversarial is not None
    )
    if adversarial is not None:
        (adversarial,) = torch.autograd.grad(image, decoder_input, adversarial)
    return replace(gradient, reconstruction=reconstruction, adversarial=adversarial)
