"""Which of the project's files a stage runs, found from its imports without running it."""

import ast
from pathlib import Path

from ruamel.yaml import YAML

PACKAGES = ("tvqrap", "pipeline", "stages")

# These cannot change what a stage makes: declarations without defaults (a change that matters
# shows in params.yaml), and the reporting, locking, file handling and spreading of the work around
# the work itself.
NOT_INPUTS = {
    "tvqrap/errors.py",
    "tvqrap/files.py",
    "tvqrap/progress.py",
    "tvqrap/settings.py",
    "tvqrap/training/settings.py",
    "tvqrap/training/interruption.py",
    "tvqrap/evaluation/settings.py",
    "pipeline/ahead.py",
    "pipeline/executor/code.py",
    "pipeline/executor/outcome.py",
    "pipeline/executor/processes.py",
    "pipeline/executor/queue.py",
    "pipeline/executor/ray_actors.py",
    "pipeline/executor/ray_cluster.py",
    "pipeline/executor/ray_room.py",
    "pipeline/executor/run.py",
    "pipeline/executor/worker.py",
    "pipeline/lease.py",
    "pipeline/lock.py",
    "pipeline/run_log.py",
    "pipeline/settings.py",
    "pipeline/shared_storage.py",
    "pipeline/storage.py",
    # A teacher is declared by its weights. The code of all networks behind it would remake every
    # set as the predictor changes, with a teacher or without.
    "pipeline/teacher.py",
    "stages/continuing.py",
    "stages/launch.py",
    "stages/params.py",
    "stages/stage.py",
    "stages/tensorboard.py",
    "stages/worker.py",
    "stages/workers.py",
}


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
        if name in seen or name in NOT_INPUTS:
            continue
        seen.add(name)
        waiting += imported(root, file)
    return sorted(seen)


if __name__ == "__main__":
    # Prints the code that dvc.yaml has to list: python -m tests.stages.imports
    stages = YAML(typ="safe", pure=True).load(Path("dvc.yaml"))["stages"]
    for name in stages:
        print(name, *code_of_stage(Path.cwd(), name), sep="\n    - ")
