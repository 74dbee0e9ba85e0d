"""Model folders: weights as safetensors beside one json that says what they are."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tvqrap.architecture import Architecture, Assignment
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.runtime.atomic import atomic_path, write_atomic
from tvqrap.runtime.errors import UserError

WEIGHTS = "model.safetensors"

CONFIG = "model.json"

README = "README.md"
"""What people say of the model, if they do: kept where the model is copied or exported."""

SCHEMA = 2

_SCHEMAS = (1, SCHEMA)
"""Those that are read; before 2, every upscaler's assignment was hard."""

Kind = Literal["tokenizer", "upscaler"]


@dataclass(frozen=True)
class ModelConfig:
    """What `model.json` says."""

    kind: Kind
    """`tokenizer` (stage 1) or `upscaler` (stages 2 and 3)."""
    architecture: Architecture
    fingerprint: str
    """Of the weights, see `fingerprint`."""
    about: dict[str, Any] = field(default_factory=dict)
    """How the weights came to be: stage, steps, fingerprints of what they were made from."""
    assignment: Assignment | None = None
    """Of an upscaler: what its decoder is given; None for a tokenizer."""


def fingerprint(module: nn.Module) -> str:
    """SHA-256 (hex) over the names, dtypes, shapes and bytes of a module's state.

    Over the tensors and not over a file, so that the same weights have the same fingerprint
    however they are stored.
    """
    return state_fingerprint(module.state_dict())


def state_fingerprint(state: Mapping[str, Tensor]) -> str:
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
    """Writes a model folder; each file appears whole or not at all, the card last.

    `assignment` is an upscaler's, hard if not given.
    """
    if kind == "upscaler":
        assignment = assignment or "hard"
    state = {name: value.detach().cpu().contiguous() for name, value in module.state_dict().items()}
    card = ModelConfig(kind, architecture, state_fingerprint(state), about, assignment)
    write_model(folder, state, card)
    return card


def read_readme(folder: Path) -> str | None:
    """The README.md of a model folder, None where it carries none.

    Raises `UserError` where it is no text.
    """
    path = folder / README
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as text ({error})") from None


def write_model(folder: Path, state: dict[str, Tensor], card: ModelConfig) -> None:
    document = {
        "schema": SCHEMA,
        "kind": card.kind,
        "architecture": card.architecture.to_dict(),
        **({} if card.assignment is None else {"assignment": card.assignment}),
        "fingerprint": card.fingerprint,
        "about": card.about,
    }
    with atomic_path(folder / WEIGHTS) as temporary:
        save_file(state, temporary)
        temporary.chmod(0o644)  # safetensors makes files that their owner alone can read
    write_atomic(folder / CONFIG, json.dumps(document, indent=2) + "\n")


def read_state(folder: Path) -> dict[str, Tensor]:
    path = folder / WEIGHTS
    try:
        return load_file(path)
    except FileNotFoundError:
        raise UserError(f"{folder}: {WEIGHTS} is missing") from None
    except (OSError, SafetensorError) as error:
        raise UserError(f"{path}: not readable as safetensors: {error}") from None


def holds_model(folder: Path) -> bool:
    """Whether the folder looks like a model folder (its card is there)."""
    return (folder / CONFIG).is_file()


def read_config(folder: Path) -> ModelConfig:
    """Reads what a model folder holds, without its weights.

    Raises `UserError` where the folder is no model folder or of a schema not known here.
    """
    path = folder / CONFIG
    try:
        document = json.loads(path.read_text())
    except FileNotFoundError:
        raise UserError(f"{folder}: no model there ({CONFIG} is missing)") from None
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: not readable as a model card: {error}") from None
    try:
        if document["schema"] not in _SCHEMAS:
            raise UserError(f"{path}: schema {document['schema']}, expected 1 or {SCHEMA}")
        if document["kind"] not in ("tokenizer", "upscaler"):
            raise UserError(
                f"{path}: kind {document['kind']!r}, expected 'tokenizer' or 'upscaler'"
            )
        assignment: Assignment | None = None
        if document["kind"] == "upscaler":
            assignment = "hard" if document["schema"] == 1 else document["assignment"]
            if assignment not in get_args(Assignment):
                raise UserError(f"{path}: assignment {assignment!r}, expected 'hard' or 'soft'")
        return ModelConfig(
            kind=document["kind"],
            architecture=Architecture.from_dict(document["architecture"]),
            fingerprint=document["fingerprint"],
            about=document["about"],
            assignment=assignment,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path}: not a model card: {error}") from None


def load_weights(folder: Path, kind: Kind, module: nn.Module, card: ModelConfig) -> None:
    """Fills `module` with a model folder's weights. Raises `UserError` where they do not fit."""
    path = folder / WEIGHTS
    if card.kind != kind:
        raise UserError(f"{folder}: holds a {card.kind}, expected a {kind}")
    state = {name: value.float() for name, value in read_state(folder).items()}
    try:
        module.load_state_dict(state)
    except RuntimeError as error:
        problem = str(error).splitlines()[1:2] or [str(error)]
        raise UserError(
            f"{path}: weights do not fit the architecture in {CONFIG}: {problem[0].strip()}"
        ) from None
    if fingerprint(module) != card.fingerprint:
        raise UserError(f"{path}: weights are not those that {CONFIG} names (fingerprints differ)")


def load_tokenizer(folder: Path) -> Tokenizer:
    """Reads a stage-1 model folder, in evaluation mode on the CPU.

    Raises `UserError` where anything about it does not fit.
    """
    card = read_config(folder)
    module = Tokenizer(card.architecture)
    load_weights(folder, "tokenizer", module, card)
    return module.eval()
