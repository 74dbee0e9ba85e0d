"""Stage 3: reconstruction-aware prediction (paper, section 3.4).

The predictor is fine-tuned through the frozen decoder with image losses; its choice of codes is a
straight-through one-hot. The image losses also train the structure head, through the decoded
structure; what the code head is given of it is detached.

`train_decoder` departs from the paper: the decoder, which has only ever seen the codes of HR
images, learns from the image losses to draw what is predicted. So does soft `assignment`: the
decoder is given the mean entry itself, of which the one-hot has but the gradient. `teacher` departs
too: image losses then compare with a teacher's image of the LR image, beside HR or in its place.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tvqrap.config.training import Compute, RapTraining
from tvqrap.networks.tokenizer import join
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.adversary import adversary_for, shared_adaptive_weight
from tvqrap.objectives.image_loss import ImageGradient, ImageLoss, perceptual_for
from tvqrap.objectives.predictor import chosen_codes, code_level_losses, code_loss
from tvqrap.runtime.device import autocast, on_device, select_device, to_float32, weights_dtype
from tvqrap.training.batch import Batch, Microbatch, add_terms, as_image
from tvqrap.training.codebook_usage import CodeUsage
from tvqrap.training.compile import compile_blocks
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.ema import WeightsAverage
from tvqrap.training.optimizer import adam, apply_gradients, set_learning_rate
from tvqrap.training.validation import ImageScores, Validation, picture


class RapTrainee:
    """The predictor, and perhaps the decoder, of an upscaler otherwise frozen; its adversary."""

    def __init__(
        self,
        network: UpscalerNetwork,
        settings: RapTraining,
        compute: Compute,
        *,
        validation: Sequence[Batch],
        workers: Workers = ALONE,
    ) -> None:
        self.settings = settings
        self.compute = compute
        self.workers = workers
        self.device = select_device(compute.device, "compute.device")
        self.dtype = weights_dtype(compute.precision)
        torch.set_num_threads(compute.threads)
        self.network = on_device(network, self.device, self.dtype).train()
        self.network.freeze()
        self.network.assignment = settings.assignment
        self.network.decoder.requires_grad_(settings.train_decoder)
        self.average = WeightsAverage(self.network, settings.optimiser.ema_decay)
        if compute.compile:
            compile_blocks(self.network)
        self.optimiser = adam(self.network.parameters(), settings.optimiser)
        perceptual = perceptual_for(settings.image.perceptual)
        if perceptual is not None:
            perceptual.to(self.device, self.dtype)
        self.image_loss = ImageLoss(settings.image, perceptual, settings.teacher)
        self.adversary = adversary_for(
            settings.image.adversarial,
            settings.optimiser,
            compute,
            self.device,
            workers,
        )
        self.usage = CodeUsage(network.architecture.codebook, self.device)
        self.validation = validation
        # Last: its making draws random numbers, and the discriminator's start is to stay as it is.
        self.scores = ImageScores(self.device, self.dtype)

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step on pairs and, where code-level terms are used, the tokens of their HR images."""
        settings = self.settings
        set_learning_rate(self.optimiser, settings.optimiser, step, settings.steps)
        terms: dict[str, Tensor] = {}
        counts = torch.zeros_like(self.usage.window)
        for part, samples in batch.parts(self.compute.grad_accum_steps, self.workers.part):
            add_terms(terms, self._accumulate(samples, part, step, counts))
        self.workers.all_reduce([counts])
        self.usage.add(counts)
        terms = self.workers.reduce_terms(terms)
        terms["gradient_norm"] = apply_gradients(
            self.optimiser, settings.optimiser.grad_clip_norm, self.workers
        )
        self.average.update(self.network)
        if self.adversary is not None and self.adversary.active(step):
            self.adversary.step()
        return terms

    def _accumulate(
        self, batch: Batch, part: Microbatch, step: int, counts: Tensor
    ) -> dict[str, Tensor]:
        """Adds a part's gradients, and codes, to those of the parts before it; returns its terms.

        The losses give a gradient at the image; from there the network is passed through once, but
        for the passes that the adaptive weight takes.
        """
        settings = self.settings
        hr = as_image(batch.hr, self.device, self.dtype)
        with autocast(self.device, self.compute.precision):
            prediction = self.network.predict(as_image(batch.lr, self.device, self.dtype))
            texture = self.network.straight_through_texture(prediction.logits)
            decoder_input = join(prediction.decoded_structure, texture)
            image = to_float32(self.network.decoder(decoder_input))
        counts += chosen_codes(prediction)
        discriminator = None
        if self.adversary is not None and self.adversary.active(step):
            discriminator = self.adversary.discriminator
        teacher = None
        if settings.teacher.any:
            teacher = as_image(batch.teacher, self.device, self.dtype)
        gradient = self.image_loss.gradients(
            image, hr, discriminator, part=part, step=step, teacher=teacher
        )
        terms = dict(gradient.terms)
        if settings.train_decoder:
            end, at_end = image, self._at_image(image, gradient, part, terms)
        else:
            end = decoder_input
            at_end = self._at_decoder_input(image, decoder_input, gradient, part, terms)
        if batch.codes is None:
            end.backward(at_end)
        else:
            rest, found = code_level_losses(
                prediction,
                batch,
                code=settings.loss_weights.code,
                structure=settings.loss_weights.structure,
            )
            terms |= {name: term / part.of for name, term in found.items()}
            rest = rest / part.of
            torch.autograd.backward([end, rest], [at_end, torch.ones_like(rest)])
        if discriminator is not None:
            assert self.adversary is not None
            terms |= self.adversary.learn(hr, image, 1 / part.of)
        return terms

    def _at_image(
        self, image: Tensor, gradient: ImageGradient, part: Microbatch, terms: dict[str, Tensor]
    ) -> Tensor:
        """Gradient at the image of all its losses, balanced at the decoder's last layer."""
        if gradient.adversarial is None:
            return gradient.reconstruction
        last = self.network.decoder[-1].get_parameter("weight")
        ours, theirs = (
            torch.autograd.grad(image, last, each, retain_graph=True)[0]
            for each in (gradient.reconstruction, gradient.adversarial)
        )
        return gradient.reconstruction + gradient.adversarial * self._adversarial_weight(
            ours, theirs, part, terms
        )

    def _at_decoder_input(
        self,
        image: Tensor,
        decoder_input: Tensor,
        gradient: ImageGradient,
        part: Microbatch,
        terms: dict[str, Tensor],
    ) -> Tensor:
        """Gradient at what the decoder is given, balanced at the code head's last layer.

        The frozen decoder is passed through once for the reconstruction losses and once for the GAN
        term; both are added here, and the predictor is passed through once for all.
        """
        (at_input,) = torch.autograd.grad(
            image,
            decoder_input,
            gradient.reconstruction,
            retain_graph=gradient.adversarial is not None,
        )
        if gradient.adversarial is None:
            return at_input
        (theirs_at_input,) = torch.autograd.grad(image, decoder_input, gradient.adversarial)
        last = self.network.predictor.code_head.score.weight
        ours, theirs = (
            torch.autograd.grad(decoder_input, last, each, retain_graph=True)[0]
            for each in (at_input, theirs_at_input)
        )
        return at_input + theirs_at_input * self._adversarial_weight(ours, theirs, part, terms)

    def _adversarial_weight(
        self, ours: Tensor, theirs: Tensor, part: Microbatch, terms: dict[str, Tensor]
    ) -> Tensor:
        """What the GAN term counts for, from both gradients at one layer."""
        weight = shared_adaptive_weight(ours, theirs, self.workers, self.compute.grad_accum_steps)
        terms["adaptive_weight"] = weight / part.of
        return self.settings.image.adversarial.weight * weight

    def health(self) -> tuple[dict[str, float], str | None]:
        """Codes chosen since the last look; few of them are no reason for a warning."""
        return self.usage.look(), None

    @torch.no_grad()
    def validate(self) -> Validation:
        """Scores of validation pairs upscaled with the averaged weights."""
        pairs = []
        accuracies: list[float] = []
        for batch in self.validation:
            with autocast(self.device, self.compute.precision):
                lr = as_image(batch.lr, self.device, self.dtype)
                prediction = self.average.module.predict(lr)
                image = self.average.module.decode(prediction)
            pairs.append((to_float32(image), as_image(batch.hr, self.device, self.dtype)))
            if batch.codes is not None:
                accuracies += [code_loss(prediction, batch)[1].item()] * len(batch.keys)
        scores = self.scores(pairs)
        if accuracies:
            scores["code_accuracy"] = sum(accuracies) / len(accuracies)
        lr = as_image(self.validation[0].lr, self.device, self.dtype)
        return Validation(scores, picture(lr, *pairs[0]))

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""
        return {
            "trained": {
                name: parameter.detach()
                for name, parameter in self.network.named_parameters()
                if parameter.requires_grad
            },
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": self.adversary.state() if self.adversary else None,
            "usage": self.usage.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.network.load_state_dict(state["trained"], strict=False)
        self.average.load_state(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.usage.load_state(state["usage"])
        if self.adversary:
            self.adversary.load_state(state["adversary"])
