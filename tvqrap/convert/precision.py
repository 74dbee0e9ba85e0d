"""Converts the weights of a model folder to float16."""

from dataclasses import replace
from pathlib import Path

from tvqrap.pretrained.folder import (
    README,
    ModelConfig,
    read_config,
    read_readme,
    read_state,
    state_fingerprint,
    write_model,
)
from tvqrap.runtime.atomic import write_atomic
from tvqrap.runtime.errors import UserError


def halve_model(folder: Path, output: Path) -> ModelConfig:
    """Writes a model folder with the weights of another as float16: half the bytes.

    The new fingerprint is of the weights as they are read back, in float32; a README.md goes along.
    Raises `UserError` where `folder` holds no model, or a weight is too large for float16.
    """
    card = read_config(folder)
    state = {name: value.half() for name, value in read_state(folder).items()}
    for name, value in state.items():
        if not value.isfinite().all():
            raise UserError(f"{folder}: {name} has values beyond float16")
    read_back = {name: value.float() for name, value in state.items()}
    about = {**card.about, "halved_from": card.fingerprint}
    card = replace(card, fingerprint=state_fingerprint(read_back), about=about)
    write_model(output, state, card)
    readme = read_readme(folder)
    if readme is not None:
        write_atomic(output / README, readme)
    return card
