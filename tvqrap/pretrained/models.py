"""Finds an upscaler by its name: a folder, a file, or a model of the package or of the hub."""

import hashlib
from dataclasses import dataclass
from pathlib import Path

from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import read_config
from tvqrap.pretrained.hub import PREFIX, hub_folder, is_hub_name
from tvqrap.pretrained.other import SUFFIXES, OtherNetwork, load_other
from tvqrap.pretrained.packaged import model_path
from tvqrap.pretrained.single_file import (
    is_single_file,
    load_single_file,
    read_single_config,
)
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.errors import UserError


@dataclass(frozen=True)
class Model:
    """An upscaler that can be loaded."""

    path: Path
    """A model folder, a single file of ours, or a file that spandrel reads."""
    fingerprint: str
    """SHA-256 (hex) of the weights of a model folder, or of the file."""
    lr_multiple: int
    """The network takes LR images whose sides are multiples of this."""

    @property
    def spandrel(self) -> bool:
        """Whether it is a file of another project."""
        return self.path.is_file() and not is_single_file(self.path)

    def load(self) -> UpscalerNetwork | OtherNetwork:
        """Reads the weights to the CPU. Raises UserError where anything about them does not fit."""
        if self.path.is_dir():
            return load_upscaler(self.path)
        if self.spandrel:
            return OtherNetwork(load_other(self.path))
        return load_single_file(self.path)


def name_or_path(given: str) -> str | Path:
    """What a command is given: a name of the hub where it has the prefix, otherwise a path."""
    return given if given.startswith(PREFIX) else model_path(given)


def find_model(given: str | Path) -> Model:
    """Finds a model folder, a single file or a file of another project, without its weights.

    A string may also name an upscaler of the package (`package:degraded`), or a model on the
    Hugging Face Hub: `user/model`, or `hf:user/model` where there could be such a path. Raises
    UserError where there is none, or where a folder holds a model of another kind.
    """
    path = hub_folder(str(given)) if is_hub_name(given) else model_path(str(given))
    if path.is_file():
        if path.suffix.lower() not in SUFFIXES:
            raise UserError(f"{path}: expected a model folder, or a file {' or '.join(SUFFIXES)}")
        if is_single_file(path):
            config = read_single_config(path)
            return Model(path, config.fingerprint, config.architecture.lr_multiple)
        try:
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror})") from None
        return Model(path, digest, 1)
    if not path.exists():
        raise UserError(f"{path}: no such file or folder")
    config = read_config(path)
    if config.kind != "upscaler":
        raise UserError(f"{path}: holds a {config.kind}, expected an upscaler")
    return Model(path, config.fingerprint, config.architecture.lr_multiple)
