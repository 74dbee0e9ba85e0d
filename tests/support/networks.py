"""Passes through networks that only tests take."""

from torch import Tensor

from tvqrap.networks.predictor import Prediction
from tvqrap.networks.tokenizer import join
from tvqrap.networks.upscaler import UpscalerNetwork


def straight_through(network: UpscalerNetwork, lr: Tensor) -> tuple[Tensor, Prediction]:
    """Upscales as the network does, with the gradient of stage 3 to the logits."""
    prediction = network.predict(lr)
    texture = network.straight_through_texture(prediction.logits)
    return network.decoder(join(prediction.decoded_structure, texture)), prediction
