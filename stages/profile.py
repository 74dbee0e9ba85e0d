"""Profiles: `laptop.yaml` is complete, each other one holds what differs from its `base`.

Mappings are merged key by key. Any other value, lists among them, replaces the base's. A key that
the base does not have is added after the key that stands before it in the profile. A profile cannot
remove a key of its base.
"""

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from tvqrap.runtime.errors import UsageError

PROFILES = Path("stages/profiles")
BASE = "base"
"""The key of a profile that names the file which it changes, relative to its own folder."""


def profile_names(root: Path = Path()) -> list[str]:
    """Names of the profiles of the checkout in `root`, sorted."""
    return sorted(path.stem for path in (root / PROFILES).glob("*.yaml"))


def profile_path(name: str, root: Path = Path()) -> Path:
    """The file of a profile. Raises `UsageError` that lists the profiles for another name."""
    names = profile_names(root)
    if name not in names:
        raise UsageError(f"profile {name!r} is not known, expected one of {', '.join(names)}")
    return root / PROFILES / f"{name}.yaml"


def read_text(path: Path) -> str:
    """The text of a YAML file. Raises `UsageError`, one line that starts with the path."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: not found") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable: {error}") from None


def read_mapping(text: str, origin: str) -> dict[str, Any]:
    """The mapping that a YAML text holds. Raises `UsageError`, a line that starts with `origin`."""
    data = _load(YAML(typ="safe", pure=True), text, origin)
    assert isinstance(data, dict)
    return data


def expanded(path: Path) -> str:
    """The complete text of a profile or of any other file that names a `base`.

    It has the base's comments, but the profile's own comment at the top. A file without `base`
    stays as it is. Raises `UsageError`, one line that names the file.
    """
    text = read_text(path)
    changes = read_mapping(text, str(path))
    if BASE not in changes:
        return text
    base = changes.pop(BASE)
    if not isinstance(base, str) or not base:
        raise UsageError(f"{path}: {BASE}: found {base!r}, expected the name of a file")
    source = path.parent / base
    yaml = YAML(typ="rt", pure=True)
    yaml.width = 4096  # lines stay as long as they are
    yaml.preserve_quotes = True
    _, body = _split_header(read_text(source))
    values = _load(yaml, body, str(source))
    _merge(values, changes)
    stream = io.StringIO()
    yaml.dump(values, stream)
    return _split_header(text)[0] + "\n" + stream.getvalue().lstrip("\n")


def _load(yaml: YAML, text: str, origin: str) -> Any:
    try:
        data = yaml.load(text)
    except (YAMLError, ValueError) as error:  # the latter for a date that does not exist
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UsageError(f"{origin}: {where}not readable as YAML: {problem}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{origin}: holds no keys; expected a mapping of keys to values")
    return data


def _split_header(text: str) -> tuple[str, str]:
    """(the comment at the top of a file, the rest of it)."""
    lines = text.splitlines(keepends=True)
    count = next((n for n, line in enumerate(lines) if not line.startswith("#")), len(lines))
    return "".join(lines[:count]), "".join(lines[count:])


def _merge(base: CommentedMap, changes: Mapping[str, Any]) -> None:
    place = 0
    for key, value in changes.items():
        if key not in base:
            base.insert(place, key, _commented(value))
        elif isinstance(base[key], dict) and isinstance(value, dict):
            _merge(base[key], value)
        else:
            base[key] = _replacement(base[key], value)
        place = list(base).index(key) + 1


def _replacement(old: Any, new: Any) -> Any:
    """`new` for YAML; a list keeps the comment below the old one, which describes the next key."""
    made = _commented(new)
    if isinstance(old, CommentedSeq) and isinstance(made, CommentedSeq) and old and made:
        comment = old.ca.items.get(len(old) - 1)
        if comment is not None:
            made.ca.items[len(made) - 1] = comment
    return made


def _commented(value: Any) -> Any:
    if isinstance(value, dict):
        return CommentedMap((key, _commented(each)) for key, each in value.items())
    if isinstance(value, list):
        return CommentedSeq(_commented(each) for each in value)
    return value
