"""Model folders: weights as safetensors beside one JSON file that describes them."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import torch
from pydantic import BeforeValidator, Field, InstanceOf, model_validator
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tvqrap.architecture import Architecture, Assignment
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.runtime.atomic import atomic_path
from tvqrap.runtime.documents import Document, check_regular, read_document, read_regular
from tvqrap.runtime.errors import UserError

WEIGHTS = "model.safetensors"

CONFIG = "model.json"

README = "README.md"
"""The model's description for people. It is optional, and copied and exported with the model."""

SCHEMA: Final = 2
"""The schema that is written; schema 1, in which all assignments are hard, is read too."""

Kind = Literal["tokenizer", "upscaler"]
NAMED: Final = {"tokenizer": "a tokenizer", "upscaler": "an upscaler"}


def _architecture(value: Any) -> Any:
    return Architecture.from_dict(value) if isinstance(value, dict) else value


class ModelConfig(Document):
    """The content of `model.json`."""

    schema_version: Literal[1, 2] = Field(alias="schema")
    kind: Kind
    """`tokenizer` (stage 1) or `upscaler` (stages 2 and 3)."""
    architecture: Annotated[InstanceOf[Architecture], BeforeValidator(_architecture)]
    assignment: Assignment | None = None
    """How an upscaler assigns codes; None for a tokenizer."""
    fingerprint: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    """SHA-256 of the weights, see `fingerprint`."""
    about: dict[str, Any]
    """The weights' origin: stage, steps, fingerprints of the models that training started from."""

    @model_validator(mode="before")
    @classmethod
    def _hard_before_schema_2(cls, values: Any) -> Any:
        if isinstance(values, dict) and (values.get("schema"), values.get("kind")) == (
            1,
            "upscaler",
        ):
            return {**values, "assignment": "hard"}
        return values

    @model_validator(mode="after")
    def _assigned(self) -> "ModelConfig":
        if self.kind == "tokenizer" and self.assignment is not None:
            raise ValueError(f"assignment is {self.assignment!r}, expected none for a tokenizer")
        if self.kind == "upscaler" and self.assignment is None:
            raise ValueError("assignment is None, expected 'hard' or 'soft' for an upscaler")
        return self


def fingerprint(module: nn.Module) -> str:
    """SHA-256 (hex) over the names, dtypes, shapes and bytes of a module's state.

    The same weights have the same fingerprint in every file format.
    """
    return state_fingerprint(module.state_dict())


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
    """The fingerprint of a state dict, see `fingerprint`."""
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        value = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def save_model(
    folder: Path,
    kind: Kind,
    module: nn.Module,
    architecture: Architecture,
    about: dict[str, Any],
    assignment: Assignment | None = None,
) -> ModelConfig:
    """Writes a model folder; each file appears whole or not at all, `model.json` last.

    `assignment` is an upscaler's, hard if not given.
    """
    if kind == "upscaler":
        assignment = assignment or "hard"
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    config = ModelConfig(
        schema=SCHEMA,
        kind=kind,
        architecture=architecture,
        assignment=assignment,
        fingerprint=state_fingerprint(state),
        about=about,
    )
    write_model(folder, state, config)
    return config


def read_readme(folder: Path) -> str | None:
    """The README.md of a model folder, None where there is none.

    Raises `UserError` where it is not text, or a link to another place: it is copied and published.
    """
    path = folder / README
    own = [folder.resolve()]
    if own[0].parent.name == "snapshots":  # the hub's cache keeps files in blobs/, under links
        own.append(own[0].parents[1] / "blobs")
    if path.resolve().parent not in own:
        raise UserError(f"{path}: is a link out of the folder, expected a file in it")
    try:
        return read_regular(path).decode()
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{path}: not readable as text ({error})") from None


def config_document(config: ModelConfig) -> dict[str, Any]:
    """The content of `model.json`, for JSON."""
    return {
        "schema": SCHEMA,
        "kind": config.kind,
        "architecture": config.architecture.to_dict(),
        **({} if config.assignment is None else {"assignment": config.assignment}),
        "fingerprint": config.fingerprint,
        "about": config.about,
    }


def write_model(folder: Path, state: dict[str, Tensor], config: ModelConfig) -> None:
    """Writes weights and `model.json`; each file appears whole or not at all.

    A model that is there is replaced once both files are written. Raises `UserError` where the
    weights cannot be written.
    """
    with atomic_path(folder / CONFIG) as card:
        card.write_text(json.dumps(config_document(config), indent=2) + "\n", encoding="utf-8")
        write_safetensors(folder / WEIGHTS, state)  # they take their name first


def write_safetensors(
    file: Path, state: Mapping[str, Tensor], about: dict[str, str] | None = None
) -> None:
    """Writes tensors and, if given, metadata as one file, whole or not at all.

    Raises `UserError` where it cannot be written.
    """
    with atomic_path(file) as temporary:
        try:
            save_file(dict(state), temporary, about)
        except SafetensorError as error:  # of a full disk too
            raise UserError(f"{file}: cannot be written ({error})") from None
        temporary.chmod(0o644)  # safetensors makes files that their owner alone can read


def read_state(folder: Path) -> dict[str, Tensor]:
    """The weights of a model folder by name. Raises `UserError` where they cannot be read."""
    path = folder / WEIGHTS
    try:
        check_regular(path)
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{folder}: {WEIGHTS} is missing") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not readable as safetensors: {error}") from None


def state_as(folder: Path, dtype: torch.dtype) -> dict[str, Tensor]:
    """The weights of a model folder in another number format.

    Raises `UserError` where they cannot be read, or a value is not finite in that format.
    """
    state = {name: value.to(dtype) for name, value in read_state(folder).items()}
    for name, value in state.items():
        if not value.isfinite().all():
            raise UserError(f"{folder}: {name} has values beyond {str(dtype)[len('torch.') :]}")
    return state


def holds_model(folder: Path) -> bool:
    """Whether the folder holds a `model.json`."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> ModelConfig:
    """Reads `model.json` of a model folder, without its weights.

    Raises `UserError` where the file is missing, or a key of it has another value than expected.
    """
    if folder.is_file():
        raise UserError(f"{folder}: is a file, expected a model folder")
    try:
        return read_document(folder / CONFIG, ModelConfig)
    except FileNotFoundError:
        raise UserError(f"{folder}: no model there ({CONFIG} is missing)") from None


def load_weights(folder: Path, kind: Kind, module: nn.Module, config: ModelConfig) -> None:
    """Fills `module` with a model folder's weights. Raises `UserError` where they do not fit."""
    path = folder / WEIGHTS
    if config.kind != kind:
        raise UserError(f"{folder}: holds {NAMED[config.kind]}, expected {NAMED[kind]}")
    state = read_state(folder)
    try:
        module.load_state_dict({name: value.float() for name, value in state.items()})
    except RuntimeError as error:
        problem = str(error).splitlines()[1:2] or [str(error)]
        raise UserError(
            f"{path}: weights do not fit the architecture in {CONFIG}: {problem[0].strip()}"
        ) from None
    if fingerprint(module) != config.fingerprint:
        raise UserError(
            f"{path}: the fingerprint of the weights differs from that in {CONFIG}; "
            "expected the two files of one model"
        )


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads a stage-1 model folder, in evaluation mode on the CPU.

    Raises `UserError` where anything about it does not fit.
    """
    config = read_config(folder)
    module = Tokenizer(config.architecture)
    load_weights(folder, "tokenizer", module, config)
    return module.eval()
