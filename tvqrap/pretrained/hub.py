"""Model folders from the Hugging Face Hub. Needs the extra `hub`."""

import re
from pathlib import Path

from tvqrap.pretrained.folder import CONFIG, README, WEIGHTS
from tvqrap.runtime.errors import UserError

PREFIX = "hf:"
"""Prefix of the name of a model on the hub; needed where a path has the same form."""
_NAME = re.compile(r"([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def is_hub_name(given: str | Path) -> bool:
    """Whether a string names a model on the hub: `hf:user/model`, or `user/model` if no path."""
    if isinstance(given, Path):
        return False
    return given.startswith(PREFIX) or (
        _NAME.fullmatch(given) is not None and not Path(given).exists()
    )


def hub_folder(given: str) -> Path:
    """The model folder of `user/model` or `user/model@revision`, with or without `hf:`.

    A complete folder in the hub's cache is used without a request. Otherwise `model.json`, the
    safetensors and README.md are downloaded. Raises UserError, in one line, where the extra is
    missing, the name is invalid, or the download fails.
    """
    match = _NAME.fullmatch(given.removeprefix(PREFIX))
    # A mistyped path may look like a name.
    told = f"{given}: " if given.startswith(PREFIX) else f"{given}: no such path, and on the hub: "
    if match is None:
        raise UserError(f"{told}expected {PREFIX}user/model or {PREFIX}user/model@revision")
    try:
        from huggingface_hub import snapshot_download
    except ModuleNotFoundError:
        raise UserError(
            f"{told}huggingface_hub is not installed; pip install 'tvqrap[hub]'"
        ) from None
    name, revision = match.groups()
    problem = ""
    for offline in (True, False):
        try:
            folder = Path(
                snapshot_download(
                    name,
                    revision=revision,
                    allow_patterns=[CONFIG, WEIGHTS, README],
                    local_files_only=offline,
                )
            )
        except Exception as error:  # its HTTP library's errors are of many classes
            lines = str(error).splitlines() or [type(error).__name__]
            problem = f"cannot be downloaded ({lines[0]})"
            continue
        missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
        if not missing:
            return folder
        problem = f"no model there ({', '.join(missing)} is missing)"
    raise UserError(told + problem)
