"""Stage 3: reconstruction-aware prediction (paper, section 3.4).

The predictor is fine-tuned through the frozen decoder with image losses; its choice of codes is a
straight-through one-hot. The image losses also train the structure head, through the decoded
structure; what the code head is given of it is detached.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tvqrap.losses import ImageLoss, adaptive_weight
from tvqrap.network import UpscalerNetwork
from tvqrap.tokenizer import join
from tvqrap.training.adversary import adversary_for
from tvqrap.training.batch import Batch, as_image
from tvqrap.training.ema import WeightsAverage
from tvqrap.training.optimisation import adam, apply_gradients, learning_rate
from tvqrap.training.perceptual import perceptual_for
from tvqrap.training.precision import autocast, device_of, on_device
from tvqrap.training.predictor import code_loss, structure_loss
from tvqrap.training.settings import Compute, RapTraining
from tvqrap.training.validation import ImageScores


class RapTrainee:
    """The predictor inside an upscaler whose other parts are frozen, and its adversary."""

    def __init__(
        self,
        network: UpscalerNetwork,
        settings: RapTraining,
        compute: Compute,
        *,
        validation: Sequence[Batch],
    ) -> None:
        self.settings = settings
        self.compute = compute
        self.device = device_of(compute)
        self.network = on_device(network, self.device).train()
        self.network.freeze()
        self.average = WeightsAverage(self.network.predictor, settings.optimiser.ema)
        self.optimiser = adam(self.network.predictor.parameters(), settings.optimiser)
        perceptual = perceptual_for(settings.image.perceptual)
        if perceptual is not None:
            perceptual.to(self.device)
        self.image_loss = ImageLoss(settings.image, perceptual)
        self.scores = ImageScores(perceptual)
        self.adversary = adversary_for(
            settings.image.adversarial, settings.optimiser, network.architecture.width, self.device
        )
        self.validation = validation

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step on pairs and, where code-level terms are used, the tokens of their HR images."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings.optimiser, step, settings.steps)
        hr, lr = as_image(batch.hr, self.device), as_image(batch.lr, self.device)
        with autocast(self.compute):
            prediction = self.network.predict(lr)
            texture = self.network.straight_through_texture(prediction.logits)
            decoder_input = join(prediction.decoded_structure, texture)
            image = self.network.decoder(decoder_input).float()
        fooled = None
        if self.adversary is not None and self.adversary.active(step):
            fooled = self.adversary.discriminator
        gradient = self.image_loss.gradients(image, hr, fooled)
        terms = dict(gradient.terms)
        # The decoder's input is where the two gradients are added: the decoder is passed through
        # once for each, the predictor once for both.
        (at_input,) = torch.autograd.grad(
            image, decoder_input, gradient.reconstruction, retain_graph=fooled is not None
        )
        if gradient.adversarial is not None:
            (theirs_at_input,) = torch.autograd.grad(image, decoder_input, gradient.adversarial)
            last = self.network.predictor.code_head.score.weight
            ours, theirs = (
                torch.autograd.grad(decoder_input, last, each, retain_graph=True)[0]
                for each in (at_input, theirs_at_input)
            )
            terms["adaptive_weight"] = adaptive_weight(ours, theirs)
            factor = settings.image.adversarial.weight * terms["adaptive_weight"]
            at_input = at_input + factor * theirs_at_input
        rest = hr.new_zeros(())
        if batch.codes is not None:
            cross_entropy, terms["code_accuracy"] = code_loss(prediction, batch)
            terms["cross_entropy"] = cross_entropy.detach()
            rest = rest + settings.code * cross_entropy
            structure = structure_loss(prediction, batch)
            if structure is not None:
                terms["structure"] = structure.detach()
                rest = rest + settings.structure * structure
        if rest.requires_grad:
            torch.autograd.backward([decoder_input, rest], [at_input, torch.ones_like(rest)])
        else:
            decoder_input.backward(at_input)
        terms["gradient_norm"] = apply_gradients(self.optimiser, settings.optimiser)
        self.average.update(self.network.predictor)
        if fooled is not None:
            assert self.adversary is not None
            terms |= self.adversary.update(hr, image)
        return terms

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Scores of validation pairs upscaled by the averaged predictor."""
        network = self.network
        pairs = []
        accuracies: list[float] = []
        for batch in self.validation:
            with autocast(self.compute):
                lr = as_image(batch.lr, self.device)
                prediction = self.average.module(lr, network.structure_decoder)
                entries = network.codebook.lookup(prediction.logits.argmax(1))
                image = network.decoder(join(prediction.decoded_structure, entries))
            pairs.append((image.float(), as_image(batch.hr, self.device)))
            if batch.codes is not None:
                accuracies += [code_loss(prediction, batch)[1].item()] * len(batch.keys)
        scores = self.scores(pairs)
        if accuracies:
            scores["code_accuracy"] = sum(accuracies) / len(accuracies)
        return scores

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""
        return {
            "predictor": self.network.predictor.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": self.adversary.state() if self.adversary else None,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.network.predictor.load_state_dict(state["predictor"])
        self.average.load_state(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.adversary:
            self.adversary.load_state(state["adversary"])
