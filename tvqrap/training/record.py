"""The record of a training: its params and inputs, and their changes since its first step."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Differences:
    """The differences between two records."""

    params: dict[str, tuple[Any, Any]]
    """(value before, value now) by dotted key; None for a param that is not there."""
    data: list[str]
    """Inputs with other content, or that only one of the records has."""
    code: list[str]
    """Files and folders of code with other content, or that only one of the records has."""

    def __bool__(self) -> bool:
        return bool(self.params or self.data or self.code)

    def without(self, may_change: Callable[[str], bool]) -> "Differences":
        """The differences in data, and in params whose key may not change."""
        params = {key: pair for key, pair in self.params.items() if not may_change(key)}
        return Differences(params, self.data, [])

    def text(self) -> str:
        """The differences in words, such as `rap.steps 200, now 100; code of tvqrap/training`."""
        words = [f"{key} {_word(old)}, now {_word(new)}" for key, (old, new) in self.params.items()]
        words += [f"content of {path}" for path in self.data]
        if self.code:
            words.append(f"code of {', '.join(self.code)}")
        return "; ".join(words)


@dataclass
class TrainingRecord:
    """Params and inputs of a training; each checkpoint holds the record of its time."""

    params: Mapping[str, Any] = field(default_factory=dict)
    """Values by dotted key: numbers, strings, lists of them, or None."""
    data: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each input by path."""
    code: Mapping[str, str] = field(default_factory=dict)
    """SHA-256 of each file or folder of code by path."""
    changes: list[dict[str, Any]] = field(default_factory=list)
    """Earlier changes: the step, `params` as [before, after] by key, and paths of `code`."""

    def differences(self, now: "TrainingRecord") -> Differences:
        """The differences between this record and a later one."""
        keys = [*self.params, *(key for key in now.params if key not in self.params)]
        pairs = {key: (self.params.get(key), now.params.get(key)) for key in keys}
        return Differences(
            {key: (old, new) for key, (old, new) in pairs.items() if old != new},
            _changed(self.data, now.data),
            _changed(self.code, now.code),
        )

    def follow(self, before: "TrainingRecord", step: int) -> None:
        """Takes the changes of the record in a checkpoint after `step` steps, and adds its own."""
        self.changes = list(before.changes)
        changed = before.differences(self)
        if changed:
            params = {key: list(pair) for key, pair in changed.params.items()}
            self.changes.append({"step": step, "params": params, "code": changed.code})

    def state(self) -> dict[str, Any]:
        """Returns a copy as plain dicts and lists."""
        return asdict(self)


def _changed(before: Mapping[str, str], now: Mapping[str, str]) -> list[str]:
    return [path for path in sorted({*before, *now}) if before.get(path) != now.get(path)]


def _word(value: Any) -> str:
    return "empty" if value is None else str(value)
