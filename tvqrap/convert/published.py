"""The authors' published checkpoints (`.pth` or safetensors) as our networks and model folders.

A stage-1 file holds the tokenizer. Stage-2 and stage-3 files hold the tokenizer and the predictor
under the same names, so the two stages cannot be told apart.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from tvqrap.architecture import WINDOW, Architecture
from tvqrap.convert.names import PREDICTOR_PREFIXES, reference_name
from tvqrap.networks.blocks import WindowAttention, relative_position_index, shift_mask
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import Kind, ModelConfig, save_model
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.state_dict import read_state_file
from tvqrap.runtime.text import printable

_NAMED = 3
"""Number of tensors of each kind that an error names."""

_CODEBOOK = reference_name("codebook.embedding.weight")
_FLOATS = (torch.float32, torch.float16, torch.bfloat16)


@dataclass(frozen=True)
class PublishedCheckpoint:
    """The networks of a published file."""

    file: str
    """Its name, without folders."""
    sha256: str
    """SHA-256 (hex) of the file."""
    entry: str | None
    """Entry that held the tensors, such as `params_ema`; None for tensors at the top level."""
    tokenizer: Tokenizer
    upscaler: UpscalerNetwork | None
    """None in a stage-1 file."""
    others: tuple[str, ...] = ()
    """Other entries of the file, which were not read."""
    computed: tuple[str, ...] = ()
    """Tensors of the file, in its names, that the networks compute themselves, found equal."""

    @property
    def kind(self) -> Kind:
        """`tokenizer` for a file of stage 1, `upscaler` for one of stage 2 or 3."""
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

        They are grouped by part, under our name of the part. Upscaling needs neither the
        tokenizer's encoder nor its fuse block nor its small autoencoder.
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
    state = read_state_file(path)
    found = state.tensors
    entries = found.get(_CODEBOOK)
    if entries is not None and entries.ndim == 2:
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
        raise UserError(f"{path}: not a published {stage} checkpoint: {'; '.join(problems)}")
    for network in networks:
        network.load_state_dict(
            {name: found[reference_name(name)] for name in network.state_dict()}
        )
        network.eval()
    indices, masks = _not_learned(networks)
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return PublishedCheckpoint(
        path.name,
        sha256,
        state.entry,
        tokenizer,
        upscaler,
        others=tuple(printable(name) for name in state.others),
        computed=tuple(sorted(indices | masks)),
    )


def save_published(folder: Path, kind: Kind, checkpoint: PublishedCheckpoint) -> ModelConfig:
    """Writes a published file's network of that kind as a model folder.

    Its `about` names the file, its SHA-256 and the parts that were left out.
    """
    network = checkpoint.network(kind)
    about = {
        "imported": {
            "file": checkpoint.file,
            "sha256": checkpoint.sha256,
            "entry": checkpoint.entry,
            "left_out": checkpoint.left_out(kind),
        }
    }
    return save_model(folder, kind, network, network.architecture, about)


def _problems(found: Mapping[str, Tensor], networks: Sequence[nn.Module]) -> list[str]:
    """Differences between the tensors and those of the networks, one phrase for each kind."""
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
    """Published names of the windows' constants: position indices, masks of shifted blocks."""
    indices, masks = set(), set()
    for network in networks:
        for name, module in network.named_modules():
            if isinstance(module, WindowAttention):
                attention = reference_name(f"{name}.position_bias").rpartition(".")[0]
                indices.add(f"{attention}.relative_position_index")
                if module.shifted:
                    masks.add(f"{attention.removesuffix('.attn')}.attn_mask")
    return indices, masks


def _is_weight(value: Tensor, shape: tuple[int, ...]) -> bool:
    return value.dtype in _FLOATS and tuple(value.shape) == shape


def _is_index(value: Tensor) -> bool:
    index = relative_position_index()
    return value.shape == index.shape and bool((value == index).all())


def _is_mask(value: Tensor) -> bool:
    """Whether it is the mask of a square map of any side: the authors store that of their crops."""
    if value.ndim != 3:
        return False
    side = WINDOW * math.isqrt(len(value))
    if value.shape != ((side // WINDOW) ** 2, WINDOW**2, WINDOW**2) or not side:
        return False
    mask = shift_mask(side, side, value.device, torch.float32)[:, 0]
    return bool((value == mask.clamp(min=-100)).all())


def _described(value: Tensor) -> str:
    return f"{str(value.dtype).removeprefix('torch.')} {tuple(value.shape)}"


def _first(names: Sequence[str]) -> str:
    """The first few, on one line whatever the file calls its tensors."""
    shown = [printable(name) for name in names[:_NAMED]]
    return ", ".join(shown) + (", ..." if len(names) > _NAMED else "")
