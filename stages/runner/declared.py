"""The params, inputs and outputs that dvc.yaml declares for each stage."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.params import Params

PIPELINE = Path("dvc.yaml")

CODE = ("pipeline", "stages", "tvqrap")
"""Folders of the project's code."""

_TOKENIZER_KEYS = ("width", "codebook", "texture", "structure", "structure_width")
_COMPUTED = {
    "tokenizer_architecture": _TOKENIZER_KEYS,
    "architecture": (*_TOKENIZER_KEYS, "swin_blocks"),
}
"""Properties of the params, and the keys that they read."""


class UndeclaredParam(Exception):
    """A stage read a param that dvc.yaml does not declare for it: a fault of the code."""


class DeclaredParams:
    """Params that raise `UndeclaredParam` for keys that dvc.yaml does not declare for the stage."""

    def __init__(self, params: Params, declared: Sequence[str]) -> None:
        self._params = params
        self._declared = frozenset(declared)

    def __getattr__(self, name: str) -> Any:
        for key in _COMPUTED.get(name, (name,)):
            if key not in self._declared:
                raise UndeclaredParam(f"{key} is not among the stage's params in {PIPELINE}")
        return getattr(self._params, name)


def read_pipeline() -> dict[str, dict[str, Any]]:
    """The entries of dvc.yaml's stages, by name."""
    pipeline = YAML(typ="safe", pure=True).load(PIPELINE.read_text(encoding="utf-8"))
    stages: dict[str, dict[str, Any]] = pipeline["stages"]
    return stages


def inputs_of(
    entry: Mapping[str, Any], params: Mapping[str, Any]
) -> tuple[tuple[str, ...], list[Path]]:
    """(keys of params, files and folders) that a stage's entry declares as its inputs."""

    def filled(path: str) -> Path:
        def value(match: re.Match[str]) -> str:
            found: Any = params
            for key in match[1].split("."):
                found = found[key]
            return str(found)

        return Path(re.sub(r"\$\{([^}]+)\}", value, path))

    return tuple(entry.get("params", ())), [filled(path) for path in entry.get("deps", ())]


def code_of(entry: Mapping[str, Any]) -> list[str]:
    """Paths of code among the inputs that a stage's entry declares.

    Folders that a param names, such as `${init}`, are data wherever they lie.
    """
    return [path for path in entry.get("deps", ()) if path.split("/")[0] in CODE]


def outs_of(entry: Mapping[str, Any]) -> list[Path]:
    """Files and folders that a stage's entry declares as its outputs: outs, metrics, plots."""
    listed = (*entry.get("outs", ()), *entry.get("metrics", ()), *entry.get("plots", ()))
    return [Path(next(iter(out)) if isinstance(out, dict) else out) for out in listed]
