"""Converts the weights of a model folder to another number format."""

from pathlib import Path
from typing import Literal

import torch

from tvqrap.pretrained.folder import (
    README,
    ModelConfig,
    read_config,
    read_readme,
    state_as,
    state_fingerprint,
    write_model,
)
from tvqrap.runtime.atomic import write_atomic

StoredDtype = Literal["float16", "float32"]


def convert_model(folder: Path, output: Path, dtype: StoredDtype) -> ModelConfig:
    """Writes a model folder with the weights of another in the number format `dtype`.

    Models are read as float32, so the new fingerprint is that of the stored weights in float32. A
    README.md is copied. Raises `UserError` where `folder` holds no model, or a weight is too large
    for float16.
    """
    config = read_config(folder)
    state = state_as(folder, getattr(torch, dtype))
    fingerprint = state_fingerprint({name: value.float() for name, value in state.items()})
    about = {**config.about, "converted_from": config.fingerprint}
    config = config.model_copy(update={"fingerprint": fingerprint, "about": about})
    write_model(output, state, config)
    readme = read_readme(folder)
    if readme is not None:
        write_atomic(output / README, readme)
    return config
