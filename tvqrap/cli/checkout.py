"""Finding the checkout, for commands that need one."""

from pathlib import Path

from tvqrap.runtime.errors import UserError


def find_checkout() -> Path | None:
    """The project's checkout that the working directory is in, if it is in one."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        if (folder / "dvc.yaml").is_file() and (folder / "stages" / "profiles").is_dir():
            return folder
    return None


def checkout() -> Path:
    """The checkout that the working directory is in; UserError where there is none."""
    folder = find_checkout()
    if folder is None:
        raise UserError(f"{Path.cwd()}: this command needs a checkout of the project, run it there")
    return folder


def default_model(name: str) -> Path:
    """The model folder `name` ("rap" or "tokenizer") of the checkout, or else of the package."""
    from tvqrap.pretrained.folder import holds_model
    from tvqrap.pretrained.packaged import WEIGHTS

    root = find_checkout()
    if root is not None and holds_model(root / "models" / name):
        return root / "models" / name
    return WEIGHTS / name
