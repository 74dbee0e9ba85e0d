"""Checks that two results have the same data, metrics, averages, padding and tiling."""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from tvqrap.comparison.result_files import ModelProtocol, Protocol, Tiling
from tvqrap.runtime.errors import UserError

_PREFIX = 12
"""Digits of a digest in a message."""
_SHOWN = 80
"""Characters of any other value in a message."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ABSENT = object()

Pairs = Sequence[tuple[str, str]]
"""Models that are compared: one of the first result, one of the second."""
Found = tuple[str, Any, Any]
"""A key, preceded by the keys that it lies in, and its two values."""


def compare_protocols(
    first: Protocol, second: Protocol, pairs: Pairs, paths: tuple[Path, Path]
) -> list[str]:
    """Checks two protocols and returns the differences that are allowed, a line each.

    Raises UserError naming the first key that must not differ, with both values. Of the data, the
    keys that both have are compared: a result without LR holds finished images alone. Networks of
    one kind must be padded and tiled alike. Networks of different kinds may be padded differently,
    as each needs, but their tiles must have one size.
    """
    if not any(key not in ("images", "set") for key in _common(first.data, second.data)):
        raise UserError(
            f"{paths[1]}: its data are named by {', '.join(second.data)}, those of {paths[0]} by "
            f"{', '.join(first.data)}; results without common data cannot be compared"
        )
    for name, a, b in _forbidden(first, second, pairs):
        raise UserError(
            f"{paths[1]}: {name} is {_shown(b)}, in {paths[0]} it is {_shown(a)}; scores of "
            "different protocols cannot be compared"
        )
    return _notes(first, second, pairs)


def _forbidden(first: Protocol, second: Protocol, pairs: Pairs) -> Iterator[Found]:
    """Differences that make scores incomparable."""
    for key in _common(first.data, second.data):
        yield from _differences(f"data: {key}", first.data[key], second.data[key])
    yield from _differences("pixels", first.pixels, second.pixels)
    yield from _differences("mean", first.mean, second.mean)
    yield from _differences("pyiqa", first.versions.get("pyiqa"), second.versions.get("pyiqa"))
    for key in _common(first.metrics, second.metrics):
        yield from _differences(f"metrics: {key}", first.metrics[key], second.metrics[key])
    for one, other in pairs:
        a, b = first.models.get(one), second.models.get(other)
        if a is not None and b is not None:
            yield from _model_differences(_pair_name(one, other), a, b)


def _model_differences(name: str, a: ModelProtocol, b: ModelProtocol) -> Iterator[Found]:
    if a.kind == b.kind:
        yield from _differences(f"padding of {name}", a.padding, b.padding)
        yield from _differences(f"tiling of {name}", _tiles(a.tiling), _tiles(b.tiling))
    elif a.tiling is not None and b.tiling is not None:
        yield from _differences(f"tiling of {name}: tile", a.tiling.tile, b.tiling.tile)


def _tiles(tiling: Tiling | None) -> dict[str, int | None] | None:
    """Tiling without the number of tiled images, which follows from their sizes."""
    return None if tiling is None else {"tile": tiling.tile, "overlap": tiling.overlap}


def _notes(first: Protocol, second: Protocol, pairs: Pairs) -> list[str]:
    """Differences that are allowed, a line each."""
    notes = [
        f"data: {key} in {'A' if key in first.data else 'B'} alone"
        for key in {**first.data, **second.data}
        if (key in first.data) != (key in second.data)
    ]
    for one, other in pairs:
        a, b = first.models.get(one), second.models.get(other)
        if a is not None and b is not None:
            name = _pair_name(one, other)
            notes += _note(f"{name}: kind", a.kind, b.kind)
            notes += _note(f"{name}: device", a.device, b.device)
    for name in {**first.versions, **second.versions}:
        notes += _note(name, first.versions.get(name), second.versions.get(name))
    for note in _note("confidence", first.interval.confidence, second.interval.confidence):
        notes.append(f"{note}; that of A is used")
    return notes


def _pair_name(one: str, other: str) -> str:
    return one if one == other else f"{one}, {other}"


def _common(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[str]:
    return [key for key in first if key in second]


def _note(name: str, a: Any, b: Any) -> list[str]:
    shown = ["none" if value is None else value for value in (a, b)]
    return [] if a == b else [f"{name}: {shown[0]} in A, {shown[1]} in B"]


def _differences(name: str, a: Any, b: Any) -> Iterator[Found]:
    """The keys in which two values differ, as deep as both are mappings."""
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        for key in {**a, **b}:
            yield from _differences(f"{name}: {key}", a.get(key, _ABSENT), b.get(key, _ABSENT))
    elif a != b:
        yield name, a, b


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if value is None:
        return "none"
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:_PREFIX]}..."
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
