"""Reads model folders of stages 2 and 3, and initialises an upscaler from a tokenizer.

It is separate from `tvqrap.pretrained.folder` so that stage 1 does not depend on the predictor.
"""

import copy
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import WEIGHTS, ModelConfig, load_weights, read_config
from tvqrap.runtime.errors import UserError, first_line


def load_upscaler(folder: Path) -> UpscalerNetwork:
    """Reads a stage-2 or stage-3 model folder, in evaluation mode on the CPU.

    Raises `UserError` where anything about it does not fit.
    """
    config = read_config(folder)
    module = UpscalerNetwork(config.architecture, config.assignment or "hard")
    load_weights(folder, "upscaler", module, config)
    return module.eval()


def load_frozen_parts(folder: Path, network: UpscalerNetwork) -> ModelConfig:
    """Loads codebook, structure decoder and decoder of a stage-1 model folder into an upscaler.

    Nothing else of the file is read, as training the predictor does not use the HR encoder.
    Raises `UserError` where anything about the folder does not fit.
    """
    config = read_config(folder)
    path = folder / WEIGHTS
    if config.kind != "tokenizer" or config.architecture != network.architecture.of_tokenizer:
        raise UserError(
            f"{folder}: holds a {config.kind} of {config.architecture}, expected a tokenizer of "
            f"{network.architecture.of_tokenizer}"
        )
    try:
        with safe_open(path, framework="pt") as file:
            for part in ("codebook", "structure_decoder", "decoder"):
                module = getattr(network, part)
                if module is not None:
                    prefix = f"{part}."
                    names = [name for name in file.keys() if name.startswith(prefix)]  # noqa: SIM118
                    module.load_state_dict(
                        {name.removeprefix(prefix): file.get_tensor(name) for name in names}
                    )
    except (OSError, SafetensorError, RuntimeError) as error:
        raise UserError(f"{path}: {first_line(error)}") from None
    return config


def check_frozen_parts(network: UpscalerNetwork, predictor: Path, tokenizer: Path) -> None:
    """Checks that the frozen parts of an upscaler equal those of the tokenizer of the tokens.

    Raises `UserError` where a tensor of `network`, which was read from `predictor`, differs from
    that of the model folder `tokenizer`.
    """
    expected = copy.deepcopy(network)
    load_frozen_parts(tokenizer, expected)
    wanted = expected.state_dict()
    for name, value in network.state_dict().items():
        if not torch.equal(value, wanted[name]):
            raise UserError(
                f"{predictor}: {name} differs from that of {tokenizer}; train the predictor again"
            )
