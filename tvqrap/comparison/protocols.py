"""Whether two results may be compared: the same data, metrics, averages, padding and tiling."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tvqrap.runtime.errors import UserError

_PREFIX = 12
"""Digits of a digest in a message."""
_SHOWN = 80
"""Characters of any other value in a message."""
_DIGEST = re.compile(r"[0-9a-f]{64}")
_ABSENT = object()

Protocol = Mapping[str, Any]
"""The `protocol` of a scores.json."""
Found = tuple[str, Any, Any]
"""A key (with those that it lies in), and its two values."""


def compare_protocols(
    ours: Protocol, theirs: Protocol, pairs: Sequence[tuple[str, str]], paths: tuple[Path, Path]
) -> list[str]:
    """What differs and may differ, a line each, for pairs of models (of the first, of the second).

    Raises UserError naming the first key that must not differ, with both values. Of the data, the
    keys that both have are compared: a side without LR holds finished images alone. Networks of one
    kind must be padded and tiled alike; networks of different kinds pad as each must, but their
    tiles are of one size.
    """

    def refuse(found: Found | None) -> None:
        if found is not None:
            name, a, b = found
            raise UserError(
                f"{paths[1]}: {name} is {_shown(b)}, in {paths[0]} it is {_shown(a)}; scores of "
                "different protocols cannot be compared"
            )

    notes = []
    data = [side["data"] for side in (ours, theirs)]
    common = [key for key in data[0] if key in data[1]]
    if not any(key not in ("images", "set") for key in common):
        raise UserError(
            f"{paths[1]}: its data are named by {', '.join(data[1])}, those of {paths[0]} by "
            f"{', '.join(data[0])}; what has nothing in common cannot be compared"
        )
    refuse(_difference("data", *({key: side[key] for key in common} for side in data)))
    notes += [f"data: {key} in {'A' if key in data[0] else 'B'} alone" for key in _lone(*data)]
    for name in ("pixels", "mean"):
        refuse(_difference(name, ours.get(name), theirs.get(name)))
    versions = [side["versions"] for side in (ours, theirs)]
    refuse(_difference("pyiqa", versions[0].get("pyiqa"), versions[1].get("pyiqa")))
    for name in ours["metrics"]:
        if name in theirs["metrics"]:
            refuse(_difference(f"metrics: {name}", ours["metrics"][name], theirs["metrics"][name]))
    for first, second in pairs:
        a, b = ours["models"].get(first, {}), theirs["models"].get(second, {})
        name = first if first == second else f"{first}, {second}"
        notes += _model_notes(name, a, b)
        for how in ("padding", "tiling"):
            if how in a and how in b:
                refuse(_model_difference(f"{how} of {name}", how, a, b))
    for name in dict.fromkeys([*versions[0], *versions[1]]):
        if versions[0].get(name) != versions[1].get(name):
            notes.append(_note(name, versions[0].get(name), versions[1].get(name)))
    interval = [side.get("interval", {}) for side in (ours, theirs)]
    for name in ("samples", "confidence", "seed"):
        if interval[0].get(name) != interval[1].get(name):
            said = _note(f"intervals: {name}", interval[0].get(name), interval[1].get(name))
            notes.append(f"{said}; A's is taken")
    return notes


def _lone(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> list[str]:
    return [key for key in {**ours, **theirs} if (key in ours) != (key in theirs)]


def _model_difference(name: str, how: str, ours: Protocol, theirs: Protocol) -> Found | None:
    if ours.get("kind") == theirs.get("kind"):
        if how == "tiling" and ours[how] and theirs[how]:
            # How many images took tiles follows from their sizes.
            ours, theirs = (
                {how: {key: value for key, value in side[how].items() if key != "images"}}
                for side in (ours, theirs)
            )
        return _difference(name, ours[how], theirs[how])
    if how == "tiling" and ours[how] and theirs[how]:
        return _difference(name, {"tile": ours[how]["tile"]}, {"tile": theirs[how]["tile"]})
    return None


def _model_notes(name: str, ours: Protocol, theirs: Protocol) -> list[str]:
    return [
        _note(f"{name}: {key}", ours.get(key), theirs.get(key))
        for key in ("kind", "device")
        if ours.get(key) != theirs.get(key)
    ]


def _note(name: str, ours: Any, theirs: Any) -> str:
    a, b = ("none" if value is None else value for value in (ours, theirs))
    return f"{name}: {a} in A, {b} in B"


def _difference(name: str, ours: Any, theirs: Any) -> Found | None:
    """The first key in which two values differ, as deep as both are alike in kind."""
    if isinstance(ours, Mapping) and isinstance(theirs, Mapping):
        for key in {**ours, **theirs}:
            a, b = ours.get(key, _ABSENT), theirs.get(key, _ABSENT)
            found = _difference(f"{name}: {key}", a, b)
            if found is not None:
                return found
        return None
    return None if ours == theirs else (name, ours, theirs)


def _shown(value: Any) -> str:
    if value is _ABSENT:
        return "absent"
    if value is None:
        return "none"
    if isinstance(value, str) and _DIGEST.fullmatch(value):
        return f"{value[:_PREFIX]}..."
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
