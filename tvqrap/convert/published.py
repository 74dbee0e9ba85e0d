"""The authors' published checkpoints (`.pth` files) as our networks and model folders.

A stage-1 file holds the tokenizer. A stage-2 and a stage-3 file hold the tokenizer and the
predictor, under the same names: nothing in them tells which of the two they are.
"""

from __future__ import annotations

import hashlib
import math
import pickle
import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tvqrap.architecture import WINDOW, Architecture
from tvqrap.convert.names import PREDICTOR_PREFIXES, reference_name
from tvqrap.networks.blocks import WindowAttention, relative_position_index, shift_mask
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import Kind, ModelConfig, save_model
from tvqrap.runtime.errors import UserError

KEYS = ("params_ema", "params")
"""Entries of a file that may hold its tensors; the first that is there is read."""

_NAMED = 3
"""Tensors that an error names of each kind."""

_CODEBOOK = reference_name("codebook.embedding.weight")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """What a published file holds."""

    file: str
    """Its name, without folders."""
    sha256: str
    """Of the file, hex."""
    key: str
    """Entry that held the tensors, one of `KEYS`."""
    tokenizer: Tokenizer
    upscaler: UpscalerNetwork | None
    """None in a stage-1 file."""
    others: tuple[str, ...] = ()
    """Other entries of the file, which were not read."""
    computed: tuple[str, ...] = ()
    """Tensors of the file, in its names, that the networks compute: found to be equal."""

    @property
    def kind(self) -> Kind:
        """What the file was published for: `tokenizer` (stage 1) or `upscaler` (2 and 3)."""
        return "tokenizer" if self.upscaler is None else "upscaler"

    def network(self, kind: Kind) -> Tokenizer | UpscalerNetwork:
        """The network of that kind. Raises `ValueError` for an upscaler of a stage-1 file."""
        if kind == "tokenizer":
            return self.tokenizer
        if self.upscaler is None:
            raise ValueError(f"{self.file} is a stage-1 file and has no upscaler")
        return self.upscaler

    def names_left_out(self, kind: Kind) -> dict[str, list[str]]:
        """Learned tensors of the file, in its names, that the network of that kind does not need.

        They are sorted by part, under the part's name here; upscaling needs none of the
        tokenizer's encoder, fuse block and small autoencoder.
        """
        names = set(self.tokenizer.state_dict())
        if self.upscaler is not None:
            names |= set(self.upscaler.state_dict())
        names -= set(self.network(kind).state_dict())
        parts: dict[str, list[str]] = {}
        for name in sorted(names):
            parts.setdefault(name.split(".")[0], []).append(reference_name(name))
        return parts

    def left_out(self, kind: Kind) -> dict[str, int]:
        """How many tensors of each part `names_left_out` names."""
        return {part: len(names) for part, names in self.names_left_out(kind).items()}


def read_published(path: Path) -> PublishedCheckpoint:
    """Reads a published file of stage 1, 2 or 3; code in it is never run.

    Its tensors must be those of the paper's network by name and shape. Only the number of codebook
    entries is read from the file. Half-precision weights are widened to float32.

    Raises:
        UserError: The file cannot be read or is not such a file; the message names the first
            tensors that are missing, unexpected or of another shape.
    """
    contents, sha256 = _load(path)
    key, found = _tensors(path, contents)
    entries = found.get(_CODEBOOK)
    if isinstance(entries, Tensor) and entries.ndim == 2:
        try:
            architecture = Architecture(codebook=len(entries))
        except ValueError as error:
            raise UserError(f"{path}: {_CODEBOOK}: {error}") from None
    else:
        architecture = Architecture()
    tokenizer = Tokenizer(architecture)
    upscaler = None
    if any(name.startswith(PREDICTOR_PREFIXES) for name in found):
        upscaler = UpscalerNetwork(architecture)
    networks = [network for network in (tokenizer, upscaler) if network is not None]
    stage = "stage 1" if upscaler is None else "stage 2 or 3"
    problems = _problems(found, networks)
    if problems:
        raise UserError(f"{path}: is no published {stage} checkpoint: {'; '.join(problems)}")
    for network in networks:
        network.load_state_dict(
            {name: found[reference_name(name)] for name in network.state_dict()}
        )
        network.eval()
    indices, masks = _not_learned(networks)
    return PublishedCheckpoint(
        path.name,
        sha256,
        key,
        tokenizer,
        upscaler,
        others=tuple(printable(str(entry)) for entry in contents if entry != key),
        computed=tuple(sorted(indices | masks)),
    )


def save_published(folder: Path, kind: Kind, checkpoint: PublishedCheckpoint) -> ModelConfig:
    """Writes a published file's network of that kind as a model folder.

    The config's `about` names the file, its SHA-256 and the parts that were left out.
    """
    network = checkpoint.network(kind)
    about = {
        "imported": {
            "file": checkpoint.file,
            "sha256": checkpoint.sha256,
            "key": checkpoint.key,
            "left_out": checkpoint.left_out(kind),
        }
    }
    return save_model(folder, kind, network, network.architecture, about)


def _load(path: Path) -> tuple[Any, str]:
    """What the file unpickles to, tensors on the CPU, and the file's SHA-256."""
    if path.is_dir():
        raise UserError(f"{path}: is a folder, expected a published checkpoint (.pth)")
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            file.seek(0)
            # torch warns of files that it then fails to read: the error below says it all.
            with warnings.catch_warnings(action="ignore"):
                return torch.load(file, map_location="cpu", weights_only=True), sha256
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except Exception as error:
        # Other bytes than a checkpoint's make the reader fail in any way at all.
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise UserError(
                f"{path}: asks for the Python object {refused[1]}, expected tensors alone; "
                "nothing of it was run"
            ) from None
        raise UserError(
            f"{path}: {path.stat().st_size:,} bytes that are not readable as a PyTorch checkpoint "
            "(cut short, or another kind of file)"
        ) from None


def _tensors(path: Path, contents: Any) -> tuple[str, Mapping[str, Any]]:
    """The entry that holds the tensors, and them by name."""
    wanted = " or ".join(KEYS)
    if not isinstance(contents, Mapping):
        raise UserError(f"{path}: holds a {type(contents).__name__}, expected entries {wanted}")
    key = next((key for key in KEYS if key in contents), None)
    if key is None:
        raise UserError(
            f"{path}: expected an entry {wanted}; found {_first([*contents]) or 'nothing'}"
        )
    found = contents[key]
    if not isinstance(found, Mapping):
        raise UserError(f"{path}: {key} is a {type(found).__name__}, expected named tensors")
    return key, {str(name): value for name, value in found.items()}


def _problems(found: Mapping[str, Any], networks: Sequence[nn.Module]) -> list[str]:
    """Why the tensors are not those of the networks: phrases, none where they are."""
    learned = {
        reference_name(name): tuple(value.shape)
        for network in networks
        for name, value in network.state_dict().items()
    }
    indices, masks = _not_learned(networks)
    expected = [*learned, *indices, *masks]
    problems = []
    missing = [name for name in expected if name not in found]
    if missing:
        problems.append(f"missing tensors ({len(missing)}): {_first(missing)}")
    unexpected = sorted(found.keys() - set(expected))
    if unexpected:
        problems.append(f"unexpected tensors ({len(unexpected)}): {_first(unexpected)}")

    unfit, broken = [], []
    for name, value in found.items():
        if name in learned and not _is_weight(value, learned[name]):
            unfit.append(f"{name} is {_described(value)}, expected float32 {learned[name]}")
        elif name in learned and not value.isfinite().all():
            broken.append(name)
        elif name in indices and not _is_index(value):
            unfit.append(f"{name} is not that of an {WINDOW}x{WINDOW} window")
        elif name in masks and not _is_mask(value):
            unfit.append(
                f"{name} is not that of {WINDOW}x{WINDOW} windows shifted by {WINDOW // 2}"
            )
    if unfit:
        problems.append(f"tensors that do not fit ({len(unfit)}): {_first(unfit)}")
    if broken:
        problems.append(f"tensors that are not finite ({len(broken)}): {_first(broken)}")
    return problems


def _not_learned(networks: Sequence[nn.Module]) -> tuple[set[str], set[str]]:
    """Published names of what fixes the windows: position indices, and masks of shifted blocks."""
    indices, masks = set(), set()
    for network in networks:
        for name, module in network.named_modules():
            if isinstance(module, WindowAttention):
                attention = reference_name(f"{name}.position_bias").rpartition(".")[0]
                indices.add(f"{attention}.relative_position_index")
                if module.shifted:
                    masks.add(f"{attention.removesuffix('.attn')}.attn_mask")
    return indices, masks


def _is_plain(value: Any) -> bool:
    return (
        isinstance(value, Tensor) and value.layout == torch.strided and value.device.type == "cpu"
    )


def _is_weight(value: Any, shape: tuple[int, ...]) -> bool:
    return _is_plain(value) and value.dtype in _FLOATS and tuple(value.shape) == shape


def _is_index(value: Any) -> bool:
    index = relative_position_index()
    return _is_plain(value) and value.shape == index.shape and bool((value == index).all())


def _is_mask(value: Any) -> bool:
    """Whether it is the mask of a square map of any side: the authors keep that of their crops."""
    if not _is_plain(value) or value.ndim != 3:
        return False
    side = WINDOW * math.isqrt(len(value))
    if value.shape != ((side // WINDOW) ** 2, WINDOW**2, WINDOW**2) or not side:
        return False
    mask = shift_mask(side, side, value.device, torch.float32)[:, 0]
    return bool((value == mask.clamp(min=-100)).all())


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"a {type(value).__name__}"
    kind = value.dtype if value.layout == torch.strided else value.layout
    return f"{str(kind).removeprefix('torch.')} {tuple(value.shape)}"


def _first(names: Sequence[object]) -> str:
    """The first few, on one line whatever the file calls its tensors."""
    shown = [printable(str(name)) for name in names[:_NAMED]]
    return ", ".join(shown) + (", ..." if len(names) > _NAMED else "")


def printable(name: str) -> str:
    """A name from a file, on one line whatever it holds."""
    return name if name.isprintable() else ascii(name)
