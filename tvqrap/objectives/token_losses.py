"""Losses of predicted tokens against extracted ones: codes and structure (stages 2 and 3)."""

from torch import Tensor
from torch.nn import functional as F

from tvqrap.config.training import TokenLossWeights
from tvqrap.networks.predictor import Prediction
from tvqrap.runtime.device import to_float32
from tvqrap.training.batch import Batch


def structure_loss(prediction: Prediction, batch: Batch) -> Tensor | None:
    """Mean squared error of the predicted structure; None in the vanilla-VQ baseline."""
    if prediction.structure is None:
        return None
    assert batch.structure is not None, "the batch has no structure"
    found = to_float32(prediction.structure)
    return F.mse_loss(found, batch.structure.to(found.device, found.dtype, non_blocking=True))


def code_loss(prediction: Prediction, batch: Batch) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the codes in nats, and the share of codes predicted right."""
    assert batch.codes is not None, "the batch has no codes"
    codes = batch.codes.to(prediction.logits.device, non_blocking=True)
    accuracy = (prediction.logits.detach().argmax(1) == codes).float().mean()
    return F.cross_entropy(prediction.logits, codes), accuracy


def token_losses(
    prediction: Prediction, batch: Batch, weights: TokenLossWeights
) -> tuple[Tensor, dict[str, Tensor]]:
    """Weighted sum of the losses against the tokens, and each term."""
    cross_entropy, accuracy = code_loss(prediction, batch)
    loss = weights.code * cross_entropy
    terms = {"cross_entropy": cross_entropy.detach(), "code_accuracy": accuracy}
    distance = structure_loss(prediction, batch)
    if distance is not None:
        loss = loss + weights.structure * distance
        terms["structure"] = distance.detach()
    return loss, terms
