"""Stage 2: the predictor learns structure and codes from LR images, against stored tokens.

Paper, section 3.3. Neither HR images nor the HR encoder are part of it: the targets were extracted
once, and only the frozen structure decoder of the tokenizer is run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tvqrap.network import UpscalerNetwork
from tvqrap.predictor import Prediction
from tvqrap.training.batch import Batch, as_image
from tvqrap.training.ema import WeightsAverage
from tvqrap.training.optimisation import adam, apply_gradients, learning_rate
from tvqrap.training.precision import autocast, device_of, on_device
from tvqrap.training.settings import Compute, PredictorTraining


def structure_loss(prediction: Prediction, batch: Batch) -> Tensor | None:
    """Mean squared error of the predicted structure; none in the vanilla-VQ baseline."""
    if prediction.structure is None:
        return None
    assert batch.structure is not None, "the batch has no structure"
    target = batch.structure.to(prediction.structure.device, torch.float32)
    return F.mse_loss(prediction.structure.float(), target)


def code_loss(prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the codes in nats, and the share of codes predicted right."""
    assert batch.codes is not None, "the batch has no codes"
    codes = batch.codes.to(prediction.logits.device)
    logits = prediction.logits.float()
    accuracy = (logits.detach().argmax(1) == codes).float().mean()
    return F.cross_entropy(logits, codes), accuracy


class PredictorTrainee:
    """The predictor inside an upscaler whose other parts are frozen."""

    def __init__(
        self,
        network: UpscalerNetwork,
        settings: PredictorTraining,
        compute: Compute,
        *,
        validation: Sequence[Batch],
        others: Sequence[Batch],
        code_entropy: float,
    ) -> None:
        """What to train, and what to compare it with.

        `others`: the validation batches with each LR image from another photograph.
        `code_entropy`: of the histogram of training codes, in nats: the cross-entropy of a
        predictor that knows how frequent codes are and nothing of the image.
        """
        self.settings = settings
        self.compute = compute
        self.device = device_of(compute)
        self.network = on_device(network, self.device).train()
        self.network.freeze()
        self.average = WeightsAverage(self.network.predictor, settings.optimiser.ema)
        self.optimiser = adam(self.network.predictor.parameters(), settings.optimiser)
        self.steps = sum(phase.steps for phase in settings.phases)
        self.validation = validation
        self.others = others
        self.code_entropy = code_entropy

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step on LR images and the tokens of their HR images."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings.optimiser, step, self.steps)
        with autocast(self.compute):
            prediction = self.network.predict(as_image(batch.lr, self.device))
        cross_entropy, accuracy = code_loss(prediction, batch)
        loss = settings.code * cross_entropy
        terms = {"cross_entropy": cross_entropy.detach(), "code_accuracy": accuracy}
        structure = structure_loss(prediction, batch)
        if structure is not None:
            loss = loss + settings.structure * structure
            terms["structure"] = structure.detach()
        loss.backward()
        terms["gradient_norm"] = apply_gradients(self.optimiser, settings.optimiser)
        self.average.update(self.network.predictor)
        return terms

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Scores of the averaged predictor, also when it is fed other photographs' LR images."""
        scores = self._scores(self.validation)
        scores["cross_entropy_other_photo"] = self._scores(self.others)["cross_entropy"]
        scores["code_entropy"] = self.code_entropy
        return scores

    def _scores(self, batches: Sequence[Batch]) -> dict[str, float]:
        sums: dict[str, float] = {}
        count = 0
        for batch in batches:
            with autocast(self.compute):
                lr = as_image(batch.lr, self.device)
                prediction = self.average.module(lr, self.network.structure_decoder)
            cross_entropy, accuracy = code_loss(prediction, batch)
            scores = {"cross_entropy": cross_entropy, "code_accuracy": accuracy}
            structure = structure_loss(prediction, batch)
            if structure is not None:
                scores["structure"] = structure
            count += len(batch.keys)
            for name, value in scores.items():
                sums[name] = sums.get(name, 0.0) + value.item() * len(batch.keys)
        return {name: total / count for name, total in sums.items()}

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""
        return {
            "predictor": self.network.predictor.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.network.predictor.load_state_dict(state["predictor"])
        self.average.load_state(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
