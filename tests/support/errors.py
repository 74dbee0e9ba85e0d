"""Errors that tests expect."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tvqrap.runtime.errors import UserError


def refusal(read: Callable[[Path], object], path: Path) -> str:
    """The UserError that `read(path)` raises: one line that begins with the path, which is cut."""
    with pytest.raises(UserError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ") and len(message.splitlines()) == 1
    return message.removeprefix(f"{path}: ")
