"""The small networks in the package, so that upscaling works after `pip install`."""

from pathlib import Path

from tvqrap.runtime.errors import UserError

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of model folders like a run's `models`, in float16; README.md there is the model card."""

UPSCALER = WEIGHTS / "rap"
DEGRADED = WEIGHTS / "degraded"
"""An upscaler for photographs with noise or strong compression, whose detail it smooths."""
TOKENIZER = WEIGHTS / "tokenizer"

PREFIX = "package:"
"""Prefix of the name of an upscaler of the package."""


def model_path(given: str) -> Path:
    """The path that is given, or the model folder of `package:rap` or `package:degraded`.

    Raises UserError for another name with that prefix.
    """
    if not given.startswith(PREFIX):
        return Path(given)
    for folder in (UPSCALER, DEGRADED):
        if given == PREFIX + folder.name:
            return folder
    raise UserError(
        f"{given}: expected {PREFIX}{UPSCALER.name} or {PREFIX}{DEGRADED.name}, the upscalers of "
        "the package"
    )
