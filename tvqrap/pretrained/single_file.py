"""An upscaler as one safetensors file, for programs that know no model folders.

Its metadata follow the ModelSpec convention. The content of `model.json` is in the metadata, and
also in a tensor: programs such as spandrel hand over nothing but tensors.
"""

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

import tvqrap
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import (
    ModelConfig,
    config_document,
    read_config,
    read_state,
    state_as,
    write_safetensors,
)
from tvqrap.pretrained.folder import fingerprint as fingerprint_of
from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.documents import parse_document
from tvqrap.runtime.errors import UserError, first_line
from tvqrap.runtime.state_dict import read_state_dict

CONFIG_TENSOR = "tvqrap_config"
"""Tensor of uint8 that holds the content of `model.json`, as JSON in UTF-8."""


def write_single_file(folder: Path, file: Path, dtype: torch.dtype) -> None:
    """Writes the upscaler of a model folder as one file, whole or not at all.

    Raises UserError where the folder holds no upscaler, or a weight is not finite in `dtype`.
    """
    config = read_config(folder)
    if config.kind != "upscaler":
        raise UserError(f"{folder}: holds a {config.kind}, expected an upscaler")
    stored = state_as(folder, dtype)
    network = _network(config)
    network.load_state_dict({name: value.float() for name, value in stored.items()})
    document = json.dumps(
        config_document(config.model_copy(update={"fingerprint": fingerprint_of(network)}))
    )
    about = {**_model_spec(config), CONFIG_TENSOR: document}
    packed = torch.frombuffer(bytearray(document.encode()), dtype=torch.uint8)
    _write(file, {**stored, CONFIG_TENSOR: packed}, about)


def write_described(folder: Path, file: Path) -> None:
    """Writes the weights of a model folder with metadata of the ModelSpec convention.

    Raises UserError where the folder holds no model.
    """
    _write(file, read_state(folder), _model_spec(read_config(folder)))


def _write(file: Path, state: Mapping[str, Tensor], about: dict[str, str]) -> None:
    """Writes tensors and metadata: the same ones give the same bytes.

    safetensors writes metadata in another order each time.
    """
    with atomic_path(file) as temporary:
        write_safetensors(temporary, state, about)
        with temporary.open("r+b") as opened:
            length = int.from_bytes(opened.read(8), "little")
            header = json.loads(opened.read(length))
            header["__metadata__"] = dict(sorted(header["__metadata__"].items()))
            text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
            opened.seek(8)
            opened.write(text.ljust(length))  # with spaces, as safetensors does


def _model_spec(config: ModelConfig) -> dict[str, str]:
    return {
        "modelspec.sai_model_spec": "1.0.1",
        "modelspec.architecture": "tvqrap",
        "modelspec.implementation": f"tvqrap {tvqrap.__version__}",
        "modelspec.title": f"tvqrap {config.fingerprint[:12]}",
        "modelspec.tags": "super-resolution, 4x",
    }


def is_single_file(file: Path) -> bool:
    """Whether a file is an upscaler as `write_single_file` writes them."""
    try:
        with safe_open(file, framework="pt") as opened:
            return CONFIG_TENSOR in opened.keys()  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError):
        return False


def read_single_config(file: Path) -> ModelConfig:
    """The description in a single file. Raises UserError where it is broken."""
    try:
        with safe_open(file, framework="pt") as opened:
            packed = opened.get_tensor(CONFIG_TENSOR)
    except MemoryError:
        raise
    except Exception as error:  # of types that torch lacks, as well as of a broken file
        raise UserError(f"{file}: not readable as safetensors ({first_line(error)})") from None
    return config_in(packed, str(file))


def load_single_file(file: Path) -> UpscalerNetwork:
    """Reads a single file, in evaluation mode on the CPU. Raises UserError where it is broken."""
    return network_of(read_state_dict(file), str(file))


def network_of(state: Mapping[str, Tensor], name: str) -> UpscalerNetwork:
    """The network of a single file's tensors; `name` is the file's, for errors.

    Raises UserError where they are not those of an upscaler.
    """
    if CONFIG_TENSOR not in state:
        raise UserError(f"{name}: tensor {CONFIG_TENSOR} is missing")
    config = config_in(state[CONFIG_TENSOR], name)
    network = _network(config)
    try:
        weights = {key: value.float() for key, value in state.items() if key != CONFIG_TENSOR}
        network.load_state_dict(weights)
    except RuntimeError as error:
        problem = str(error).splitlines()[1:2] or [str(error)]
        raise UserError(f"{name}: weights do not fit the network: {problem[0].strip()}") from None
    if fingerprint_of(network) != config.fingerprint:
        raise UserError(f"{name}: the fingerprint of the weights differs from the one stated")
    return network.eval()


def config_in(packed: Tensor, name: str) -> ModelConfig:
    """The content of the tensor `CONFIG_TENSOR`. Raises UserError where it is broken."""
    if packed.dtype != torch.uint8:
        raise UserError(f"{name}: {CONFIG_TENSOR} is {packed.dtype}, expected bytes")
    content = bytes(packed.flatten().tolist())
    config = parse_document(content, ModelConfig, f"{name}: {CONFIG_TENSOR}")
    if config.kind != "upscaler":
        raise UserError(f"{name}: holds a {config.kind}, expected an upscaler")
    return config


def _network(config: ModelConfig) -> UpscalerNetwork:
    return UpscalerNetwork(config.architecture, config.assignment or "hard")
