"""JSON documents from disk, each checked whole by one pydantic model."""

import re
import stat
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import from_json

from tvqrap.runtime.errors import UserError

_SHOWN = 60
"""Characters of a wrong value in a message."""


class Document(BaseModel):
    """Base of all documents: immutable, no unknown keys, no silent conversions."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


DocumentType = TypeVar("DocumentType", bound=BaseModel)


def read_document(path: Path, model: type[DocumentType]) -> DocumentType:
    """Reads a JSON file as `model`.

    Raises UserError, one line that names the file and the first wrong key. A missing file raises
    FileNotFoundError, for callers that know what it means.
    """
    return parse_document(read_regular(path), model, str(path))


def read_regular(path: Path) -> bytes:
    """The content of a regular file; reading a pipe might never end.

    Raises UserError where it is none or cannot be read, FileNotFoundError where it is missing.
    """
    try:
        check_regular(path)
        return path.read_bytes()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None


def check_regular(path: Path) -> None:
    """Raises UserError for a pipe, device or folder, and OSError where there is nothing."""
    if not stat.S_ISREG(path.stat().st_mode):
        raise UserError(f"{path}: is not a regular file")


def parse_document(content: bytes, model: type[DocumentType], name: str) -> DocumentType:
    """Checks the bytes of a JSON document. Raises UserError, one line that starts with `name`."""
    try:
        # The model checks nan and infinity in typed fields alone.
        from_json(content, allow_inf_nan=False)
        return model.model_validate_json(content)
    except ValidationError as error:
        raise UserError(f"{name}: {first_problem(error)}") from None
    except ValueError as error:
        raise UserError(f"{name}: not readable as JSON ({error})") from None


def first_problem(error: ValidationError) -> str:
    """The first complaint of a validation in one line: key, value found, value expected."""
    first: Any = error.errors(include_url=False)[0]
    key = ": ".join(str(part) for part in first["loc"])
    message = re.sub(r"^(Value|Assertion) error, ", "", first["msg"])
    if first["type"] == "missing":
        text = f"{key} is missing"
    elif first["type"] == "extra_forbidden":
        text = f"{key} is not known"
    elif first["type"] == "value_error":
        text = f"{key}: {message}" if key else message
    else:
        expected = re.sub(r"^Input should (be|have) ", "", message)
        text = f"{key} is {_shown(first['input'])}, expected {expected}"
    return ascii(text)[1:-1] if not text.isprintable() else text


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
