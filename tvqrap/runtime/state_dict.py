"""Files of weights from outside: the one place that reads `.pth` files and foreign safetensors."""

import pickle
import re
import stat
import warnings
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from tvqrap.runtime.bounded_file import BoundedFile
from tvqrap.runtime.errors import UserError

ENTRIES = ("params_ema", "params-ema", "params", "state_dict", "model", "net")
"""Entries that may hold a file's tensors; the first one that is not None is read."""

LARGEST = 2**33
"""Bytes that a file, its unpacked parts or its tensors may have."""

_PREFIX = "module."  # begins all names in a file that torch's DataParallel saved


@dataclass(frozen=True)
class StateFile:
    """The tensors of a file and where they stood in it."""

    tensors: dict[str, Tensor]
    """Dense tensors on the CPU by name; the prefix `module.` is removed."""
    entry: str | None
    """The entry of `ENTRIES` that held the tensors; None where they are at the top."""
    others: tuple[str, ...]
    """Names of the entries beside it, which were not read."""


def read_state_dict(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a file of weights, as `read_state_file` does."""
    return read_state_file(path).tensors


def read_state_file(path: Path) -> StateFile:
    """Reads a `.pth` or safetensors file, told apart by content; code in it is never run.

    Raises:
        UserError: The file is missing, unreadable, larger than `LARGEST`, or holds anything other
            than named dense tensors.
    """
    contents = _load(path)
    entry = next((name for name in ENTRIES if isinstance(contents.get(name), Mapping)), None)
    others = () if entry is None else tuple(str(name) for name in contents if name != entry)
    found = contents if entry is None else contents[entry]
    if not found:
        raise UserError(f"{path}: holds nothing, expected named tensors")
    size = 0
    for name, value in found.items():
        if not isinstance(name, str) or not _is_dense(value):
            raise UserError(
                f"{path}: entry {name!r} is {_described(value)}, expected a tensor with a name"
            )
        size += value.numel() * value.element_size()
    _check_size(path, size, "of tensors")
    strip = all(name.startswith(_PREFIX) for name in found)
    tensors = {
        name.removeprefix(_PREFIX) if strip else name: value.detach()
        for name, value in found.items()
    }
    return StateFile(tensors, entry, others)


def _load(path: Path) -> Mapping[Any, Any]:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            kind = "a folder" if stat.S_ISDIR(status.st_mode) else "no regular file"
            raise UserError(f"{path}: is {kind}, expected a file of weights")
        _check_size(path, status.st_size, "")
        contents = _parse(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error})") from None
    except (UserError, MemoryError):
        raise
    except Exception as error:
        # Readers fail in any way at all on bytes that they were not written for.
        refused = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and refused:
            raise UserError(
                f"{path}: asks for the Python object {refused[1]}, expected tensors alone; "
                "nothing of it was run"
            ) from None
        raise UserError(
            f"{path}: {path.stat().st_size:,} bytes that are not readable as .pth or "
            "safetensors (cut short, or another kind of file)"
        ) from None
    if not isinstance(contents, Mapping):
        raise UserError(f"{path}: holds {_described(contents)}, expected named tensors")
    return contents


def _parse(path: Path) -> Any:
    with BoundedFile(path) as file:
        head = file.read(9)
        if head[8:] == b"{":  # after the length of its header, safetensors has JSON
            return load_file(path)
        file.seek(0)
        if head.startswith(b"PK"):
            with zipfile.ZipFile(file) as archive:
                size = sum(part.file_size for part in archive.infolist())
            _check_size(path, size, "when unpacked")
            file.seek(0)
        # torch warns of files that it then fails to read, which the error says.
        with warnings.catch_warnings(action="ignore"):
            return torch.load(file, map_location="cpu", weights_only=True)


def _check_size(path: Path, size: int, of: str) -> None:
    if size > LARGEST:
        words = f"{size:,} bytes {of}".strip()
        raise UserError(f"{path}: {words}, expected at most {LARGEST:,}")


def _is_dense(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout == torch.strided
        and value.device.type == "cpu"
        and not value.is_quantized
    )


def _described(value: Any) -> str:
    if not isinstance(value, Tensor):
        return f"an object of type {type(value).__name__}"
    kind = "quantized" if value.is_quantized else str(value.layout).removeprefix("torch.")
    return f"a tensor that is {kind} on {value.device.type}"
