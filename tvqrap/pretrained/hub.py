"""Model folders from the Hugging Face Hub, and to it. Needs the extra `hub`."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import tvqrap
from tvqrap.pretrained.folder import CONFIG, README, WEIGHTS
from tvqrap.runtime.errors import UserError, first_line

PREFIX = "hf:"
"""Prefix of the name of a model on the hub; needed where a path has the same form."""
_NOT_INSTALLED = "huggingface_hub is not installed; pip install 'tvqrap[hub]'"
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
        raise UserError(f"{told}{_NOT_INSTALLED}") from None
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
            problem = f"cannot be downloaded ({first_line(error)})"
            continue
        missing = [file for file in (CONFIG, WEIGHTS) if not (folder / file).is_file()]
        if not missing:
            return folder
        problem = f"no model there ({', '.join(missing)} is missing)"
    raise UserError(told + problem)


def upload(
    name: str,
    files: Mapping[str, bytes | Path],
    *,
    private: bool = False,
    kept: Collection[str] = (),
) -> str:
    """Uploads files by their names to the repository `user/model`, in one commit.

    A repository that is not there is made, `private` or public. Files of `kept` stay as they are
    where the repository has them. Returns the commit's address. Raises UserError, in one line,
    where the extra or an access token is missing, the hub refuses, or a repository is public
    although `private` is asked for.
    """
    told = f"{PREFIX}{name}: "
    try:
        from huggingface_hub import CommitOperationAdd, HfApi, get_token
    except ModuleNotFoundError:
        raise UserError(f"{told}{_NOT_INSTALLED}") from None
    if get_token() is None:
        raise UserError(
            f"{told}no access token of the hub, expected one by `hf auth login` or in HF_TOKEN"
        )
    api = HfApi(library_name="tvqrap", library_version=tvqrap.__version__)
    try:
        # None: as the account's settings have it.
        api.create_repo(name, private=private or None, exist_ok=True)
        if private and not api.model_info(name).private:
            raise UserError(f"{told}is a public repository, nothing was uploaded (--private)")
        additions = [
            CommitOperationAdd(path_in_repo=file, path_or_fileobj=content)
            for file, content in files.items()
            if file not in kept or not api.file_exists(name, file)
        ]
        message = f"Upload by tvqrap {tvqrap.__version__}"
        commit = api.create_commit(name, additions, commit_message=message)
    except UserError:
        raise
    except Exception as error:  # its HTTP library's errors are of many classes
        raise UserError(f"{told}cannot be uploaded ({first_line(error)})") from None
    return str(commit.commit_url)
