"""Which of the project's files a stage runs, found from its imports without running it."""

import ast
from pathlib import Path

from ruamel.yaml import YAML

PACKAGES = ("tvqrap", "pipeline", "stages")

# These cannot change the output of a stage: settings without defaults and their checks (a change
# that matters shows in params.yaml), the reading and writing of whole files, and the reporting,
# locking, storage and distribution of the work.
NOT_INPUTS = (
    "tvqrap/config/",
    "tvqrap/runtime/atomic.py",
    "tvqrap/runtime/bounded_file.py",
    "tvqrap/runtime/cores.py",
    "tvqrap/runtime/device_names.py",
    "tvqrap/runtime/documents.py",
    "tvqrap/runtime/errors.py",
    "tvqrap/runtime/progress.py",
    "tvqrap/runtime/signals.py",
    "tvqrap/runtime/text.py",
    "pipeline/config.py",
    "pipeline/executor/",
    "pipeline/storage/",
    # A teacher is declared by its weights. The code of all networks behind it would make every set
    # again when the predictor changes, with a teacher or without.
    "pipeline/teacher.py",
    "stages/params.py",
    "stages/profile.py",
    "stages/runner/",
)


def module_file(root: Path, name: str) -> Path | None:
    """The file of a module of the project, none for other modules."""
    path = root.joinpath(*name.split("."))
    for candidate in (path.with_suffix(".py"), path / "__init__.py"):
        if candidate.is_file():
            return candidate
    return None


def imported(root: Path, file: Path) -> set[Path]:
    """Files of the project that `file` imports anywhere in it, functions included."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            if name.split(".")[0] in PACKAGES:
                path = module_file(root, name)
                if path is not None and path.name != "__init__.py":
                    found.add(path)
    return found


def code_of_stage(root: Path, stage: str) -> list[str]:
    """Files that make the stage's results, relative to `root`, sorted."""
    waiting, seen = [root / "stages" / f"{stage}.py"], set()
    while waiting:
        file = waiting.pop()
        name = file.relative_to(root).as_posix()
        if name in seen or name.startswith(NOT_INPUTS):
            continue
        seen.add(name)
        waiting += imported(root, file)
    return sorted(seen)


def dependencies_of_stage(root: Path, stage: str) -> list[str]:
    """The code entries of a stage in dvc.yaml: folders that it imports whole, and single files."""
    code = set(code_of_stage(root, stage))
    whole = {
        folder
        for file in code
        for folder in list(Path(file).parents)[:-2]
        if modules_in(root, folder) <= code
    }
    outermost = {folder for folder in whole if not whole & set(folder.parents)}
    files = {file for file in code if not outermost & set(Path(file).parents)}
    return sorted({folder.as_posix() for folder in outermost} | files)


def modules_in(root: Path, folder: Path) -> set[str]:
    """The modules below a folder of the project, relative to `root`."""
    found = (root / folder).rglob("*.py")
    return {file.relative_to(root).as_posix() for file in found if file.name != "__init__.py"}


if __name__ == "__main__":
    # Prints the code entries that dvc.yaml has to list: python -m tests.support.imports
    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"]
    for name in stages:
        print(name, *dependencies_of_stage(Path.cwd(), name), sep="\n    - ")
