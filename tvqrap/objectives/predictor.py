"""Stage 2: the predictor learns structure and codes from LR images, against stored tokens.

Paper, section 3.3. Neither HR images nor the HR encoder are part of it: the targets were extracted
once, and only the frozen structure decoder of the tokenizer is run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tvqrap.config.training import Compute, PredictorTraining
from tvqrap.networks.predictor import Prediction
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.runtime.device import autocast, on_device, select_device, to_float32, weights_dtype
from tvqrap.training.batch import Batch, add_terms, as_image
from tvqrap.training.codebook_usage import CodeUsage
from tvqrap.training.compile import compile_blocks
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.ema import WeightsAverage
from tvqrap.training.optimizer import adam, apply_gradients, set_learning_rate
from tvqrap.training.validation import ImageScores, Validation, picture


def structure_loss(prediction: Prediction, batch: Batch) -> Tensor | None:
    """Mean squared error of the predicted structure; none in the vanilla-VQ baseline."""
    if prediction.structure is None:
        return None
    assert batch.structure is not None, "the batch has no structure"
    found = to_float32(prediction.structure)
    return F.mse_loss(found, batch.structure.to(found.device, found.dtype))


def code_loss(prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the codes in nats, and the share of codes predicted right."""
    assert batch.codes is not None, "the batch has no codes"
    codes = batch.codes.to(prediction.logits.device)
    logits = to_float32(prediction.logits)
    accuracy = (logits.detach().argmax(1) == codes).float().mean()
    return F.cross_entropy(logits, codes), accuracy


def code_level_losses(
    prediction: Prediction, batch: Batch, *, code: float, structure: float
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the code-level losses, and each term."""
    cross_entropy, accuracy = code_loss(prediction, batch)
    loss = code * cross_entropy
    terms = {"cross_entropy": cross_entropy.detach(), "code_accuracy": accuracy}
    distance = structure_loss(prediction, batch)
    if distance is not None:
        loss = loss + structure * distance
        terms["structure"] = distance.detach()
    return loss, terms


def chosen_codes(prediction: Prediction) -> Tensor:
    """Histogram of the best-scored codes, int64 (codebook)."""
    codes = prediction.logits.detach().argmax(1).flatten()
    return codes.bincount(minlength=prediction.logits.shape[1])


def _add_scores(sums: dict[str, float], prediction: Prediction, batch: Batch) -> None:
    _, terms = code_level_losses(prediction, batch, code=1, structure=1)
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + value.item() * len(batch.keys)


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
        workers: Workers = ALONE,
    ) -> None:
        """What to train, and what to compare it with.

        `others`: the validation batches with each LR image from another photograph.
        `code_entropy`: of the histogram of training codes, in nats: the cross-entropy of a
        predictor that knows how frequent codes are and nothing of the image.
        """
        self.settings = settings
        self.compute = compute
        self.workers = workers
        self.device = select_device(compute.device, "compute.device")
        self.dtype = weights_dtype(compute.precision)
        torch.set_num_threads(compute.threads)
        self.network = on_device(network, self.device, self.dtype).train()
        self.network.freeze()
        self.average = WeightsAverage(self.network.predictor, settings.optimiser.ema_decay)
        if compute.compile:
            compile_blocks(self.network)
        self.optimiser = adam(self.network.predictor.parameters(), settings.optimiser)
        self.steps = sum(phase.steps for phase in settings.phases)
        self.validation = validation
        self.others = others
        self.code_entropy = code_entropy
        self.scores = ImageScores(self.device, self.dtype)
        self.usage = CodeUsage(network.architecture.codebook, self.device)

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step on LR images and the tokens of their HR images."""
        settings = self.settings
        set_learning_rate(self.optimiser, settings.optimiser, step, self.steps)
        terms: dict[str, Tensor] = {}
        counts = torch.zeros_like(self.usage.window)
        for part, samples in batch.parts(self.compute.grad_accum_steps, self.workers.part):
            with autocast(self.device, self.compute.precision):
                prediction = self.network.predict(as_image(samples.lr, self.device, self.dtype))
            loss, found = code_level_losses(
                prediction,
                samples,
                code=settings.loss_weights.code,
                structure=settings.loss_weights.structure,
            )
            (loss / part.of).backward()
            add_terms(terms, {name: term / part.of for name, term in found.items()})
            counts += chosen_codes(prediction)
        self.workers.all_reduce([counts])
        self.usage.add(counts)
        terms = self.workers.reduce_terms(terms)
        terms["gradient_norm"] = apply_gradients(
            self.optimiser, settings.optimiser.grad_clip_norm, self.workers
        )
        self.average.update(self.network.predictor)
        return terms

    def health(self) -> tuple[dict[str, float], str | None]:
        """Codes chosen since the last look; few of them are no reason for a warning."""
        return self.usage.look(), None

    @torch.no_grad()
    def validate(self) -> Validation:
        """Scores of the averaged predictor, also when it is fed other photographs' LR images."""
        pairs: list[tuple[Tensor, Tensor]] = []
        sums: dict[str, float] = {}
        for batch in self.validation:
            prediction = self._predict(batch)
            _add_scores(sums, prediction, batch)
            with autocast(self.device, self.compute.precision):
                image = self.network.decode(prediction)
            pairs.append((to_float32(image), as_image(batch.hr, self.device, self.dtype)))
        others: dict[str, float] = {}
        for batch in self.others:
            _add_scores(others, self._predict(batch), batch)
        count = sum(len(batch.keys) for batch in self.validation)
        scores = {name: total / count for name, total in sums.items()}
        scores["cross_entropy_other_photo"] = others["cross_entropy"] / count
        scores["code_entropy"] = self.code_entropy
        lr = as_image(self.validation[0].lr, self.device, self.dtype)
        return Validation({**scores, **self.scores(pairs)}, picture(lr, *pairs[0]))

    def _predict(self, batch: Batch) -> Prediction:
        with autocast(self.device, self.compute.precision):
            lr = as_image(batch.lr, self.device, self.dtype)
            return self.average.module(lr, self.network.structure_decoder)

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""
        return {
            "predictor": self.network.predictor.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
            "usage": self.usage.state(),
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.network.predictor.load_state_dict(state["predictor"])
        self.average.load_state(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.usage.load_state(state["usage"])
