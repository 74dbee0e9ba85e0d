"""Networks of tests, and passes through networks that only tests take."""

from pathlib import Path

import torch
from torch import Tensor, nn

from tvqrap.architecture import Architecture
from tvqrap.networks.blocks import Res
from tvqrap.networks.predictor import Prediction
from tvqrap.networks.tokenizer import join
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model


def straight_through(network: UpscalerNetwork, lr: Tensor) -> tuple[Tensor, Prediction]:
    """Upscales as the network does, with the gradient of stage 3 to the logits."""
    prediction = network.predict(lr)
    texture = network.straight_through_texture(prediction.logits)
    return network.decoder(join(prediction.decoded_structure, texture)), prediction


def saved_upscaler(folder: Path, architecture: Architecture) -> Path:
    """A model folder of an untrained upscaler."""
    torch.manual_seed(0)
    save_model(folder, "upscaler", UpscalerNetwork(architecture), architecture, {})
    return folder


def random_upscaler(architecture: Architecture) -> UpscalerNetwork:
    """An upscaler with random weights in all residual blocks, whose last ones start at zero."""
    network = UpscalerNetwork(architecture)
    for module in network.modules():
        if isinstance(module, Res):
            nn.init.normal_(module.conv2.weight, std=0.02)
    return network
