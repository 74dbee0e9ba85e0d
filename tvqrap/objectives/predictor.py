"""Stage 2: the predictor learns structure and codes from LR images (paper, section 3.2).

The targets are tokens that were extracted before. Neither HR images nor the HR encoder take part in
an update; of the tokenizer the frozen structure decoder alone is run.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from tvqrap.config.training import Compute, PredictorTraining, TokenLossWeights
from tvqrap.networks.codebook import count_codes
from tvqrap.networks.predictor import Prediction
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.token_losses import token_losses
from tvqrap.runtime.device import to_float32
from tvqrap.training.batch import Batch, add_terms
from tvqrap.training.codebook_usage import CodeUsage
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.learner import Learner
from tvqrap.training.validation import ImageScores, Validation, picture

_UNWEIGHTED = TokenLossWeights(code=1.0, structure=1.0)


def chosen_codes(prediction: Prediction) -> Tensor:
    """Histogram of the codes with the highest score, int64 (codebook)."""
    logits = prediction.logits.detach()
    return count_codes(logits.argmax(1), logits.shape[1])


class PredictorTask:
    """Trains the predictor of an upscaler whose other parts are frozen."""

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
        """Takes the network to train and the samples to validate it on.

        `others` holds the validation batches with the LR images of other photographs.
        `code_entropy` is the entropy in nats of the histogram of training codes: the cross-entropy
        of a predictor that knows the frequencies of codes alone.
        """
        network.freeze()
        self.settings = settings
        self.network = network
        self.learner = Learner(
            network.predictor,
            settings.optimiser,
            compute,
            steps=settings.length,
            network=network,
            workers=workers,
        )
        self.validation = validation
        self.others = others
        self.code_entropy = code_entropy
        self.scores = ImageScores(self.learner.device, self.learner.dtype)
        self.usage = CodeUsage(network.architecture.codebook, self.learner.device)

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Takes one step on LR images and the tokens of their HR images."""
        learner = self.learner
        learner.begin(step)
        terms: dict[str, Tensor] = {}
        counts = torch.zeros_like(self.usage.window)
        for microbatch, samples in learner.microbatches(batch):
            with learner.autocast():
                prediction = self.network.predict(learner.image(samples.lr))
            loss, found = token_losses(prediction, samples, self.settings.loss_weights)
            (loss / microbatch.of).backward()
            add_terms(terms, {name: term / microbatch.of for name, term in found.items()})
            counts += chosen_codes(prediction)
        self.usage.add(counts, learner.workers)
        return learner.finish(terms)

    def health(self) -> tuple[dict[str, float], str | None]:
        """Returns use of codes and learning rate; a small use gives no warning here."""
        return {**self.learner.health(), **self.usage.look()}, None

    @torch.no_grad()
    def validate(self) -> Validation:
        """Scores the averaged predictor, on other photographs' LR images too."""
        pairs: list[tuple[Tensor, Tensor]] = []
        sums: dict[str, float] = {}
        for batch in self.validation:
            prediction = self._predict(batch)
            _add_scores(sums, prediction, batch)
            with self.learner.autocast():
                image = self.network.decode(prediction)
            pairs.append((to_float32(image), self.learner.image(batch.hr)))
        others: dict[str, float] = {}
        for batch in self.others:
            _add_scores(others, self._predict(batch), batch)
        count = sum(len(batch.keys) for batch in self.validation)
        scores = {name: total / count for name, total in sums.items()}
        scores["cross_entropy_other_photo"] = others["cross_entropy"] / count
        scores["code_entropy"] = self.code_entropy
        lr = self.learner.image(self.validation[0].lr)
        return Validation({**scores, **self.scores(pairs)}, picture(lr, *pairs[0]))

    def _predict(self, batch: Batch) -> Prediction:
        with self.learner.autocast():
            lr = self.learner.image(batch.lr)
            return self.learner.average.module(lr, self.network.structure_decoder)

    def state(self) -> dict[str, Any]:
        """Returns everything that the next update depends on."""
        return {"learner": self.learner.state(), "usage": self.usage.state()}

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
        self.learner.load_state(state["learner"])
        self.usage.load_state(state["usage"])


def _add_scores(sums: dict[str, float], prediction: Prediction, batch: Batch) -> None:
    _, terms = token_losses(prediction, batch, _UNWEIGHTED)
    for name, value in terms.items():
        sums[name] = sums.get(name, 0.0) + value.item() * len(batch.keys)
