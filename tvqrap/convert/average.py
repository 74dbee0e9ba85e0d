"""Means of the weights of upscalers that were trained from the same model.

Errors that differ between the models shrink in the mean. ESRGAN (Wang et al., 2018, section 3.4)
interpolates between a smooth and a sharp network this way.
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from tvqrap.pretrained.folder import ModelConfig, read_config, save_model
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.errors import UserError


def average_upscalers(folders: Sequence[Path], parts: Sequence[float], output: Path) -> ModelConfig:
    """Writes a model folder whose weights are the mean of others', weighted by `parts`.

    `parts` are relative to their sum, which must not be 0; a negative part extrapolates. Codes and
    structure mean different things to different tokenizers, so all codebooks must be equal.

    Raises `UserError` where a folder holds no upscaler, or one that differs from the first in
    architecture, assignment or codebook.
    """
    configs = [read_config(folder) for folder in folders]
    whole = sum(parts)
    total: dict[str, Tensor] = {}
    for folder, config, part in zip(folders, configs, parts, strict=True):
        network = load_upscaler(folder)
        if not total:
            first = network
        for name, value, expected in (
            ("architecture", config.architecture, configs[0].architecture),
            ("assignment", config.assignment, configs[0].assignment),
        ):
            if value != expected:
                raise UserError(f"{folder}: {name} is {value}, expected {expected} as {folders[0]}")
        if not network.codebook.embedding.weight.equal(first.codebook.embedding.weight):
            raise UserError(f"{folder}: another codebook than that of {folders[0]}")
        # In float64, the mean of equal weights is exact and the order of folders has no effect.
        for name, value in network.state_dict().items():
            total[name] = total.get(name, 0) + value.double() * (part / whole)
    first.load_state_dict(total)
    about = {
        "mean_of": [
            {"fingerprint": config.fingerprint, "part": part / whole, "about": config.about}
            for config, part in zip(configs, parts, strict=True)
        ]
    }
    return save_model(
        output, "upscaler", first, configs[0].architecture, about, configs[0].assignment
    )
