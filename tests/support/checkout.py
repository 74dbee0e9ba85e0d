"""A copy of the project in which the real dvc runs the tiny profile."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from stages.profile import expanded, profile_path
from tests.support.paths import ROOT, project_files

STAGES = [
    "make_pairs",
    "train_tokenizer",
    "extract_tokens",
    "train_predictor",
    "finetune_rap",
    "evaluate",
]


@dataclass(frozen=True)
class Checkout:
    """A git repository of its own, without a virtual environment inside."""

    root: Path
    executor: str = "serial"
    """The executor of the stages' tasks; empty for each stage's own. A start of Ray takes long."""

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its commands."""
        return {**environment(self.root), "TVQRAP_EXECUTOR": self.executor}

    def run(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            command,
            cwd=self.root,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        if check:
            assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        return done

    def dvc(self, *arguments: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        """Runs dvc by its path alone, as without activation."""
        return self.run(str(Path(sys.executable).parent / "dvc"), *arguments, check=check)

    def stages_run(self, done: subprocess.CompletedProcess[str]) -> list[str]:
        """Which stages a `dvc repro` or `dvc exp run` ran, in order."""
        lines = (done.stdout + done.stderr).splitlines()
        return [line.split("'")[1] for line in lines if line.startswith("Running stage")]

    def commit(self, message: str) -> None:
        self.run("git", "add", "-A")
        self.run("git", "commit", "-q", "-m", message)


def environment(home: Path) -> dict[str, str]:
    """An environment without this process's settings, its virtual environment not on PATH."""
    bin_folder = str(Path(sys.executable).parent)
    path = [part for part in os.environ["PATH"].split(os.pathsep) if part != bin_folder]
    kept = {
        name: value
        for name, value in os.environ.items()
        if name not in ("VIRTUAL_ENV", "PYTHONPATH", "TVQRAP_PYTHON", "RAY_ADDRESS")
    }
    identity = {
        f"GIT_{role}_{part}": value
        for role in ("AUTHOR", "COMMITTER")
        for part, value in (("NAME", "test"), ("EMAIL", "test@localhost"))
    }
    return {**kept, **identity, "PATH": os.pathsep.join(path), "HOME": str(home / ".home")}


def make_checkout(folder: Path, executor: str = "serial") -> Checkout:
    """Copies the tracked files (and new ones that git does not ignore), with the smoke profile."""
    for name in project_files():
        source = ROOT / name
        if source.is_file() and not name.startswith(("tests/", "evaluation/", "dvc.lock")):
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    text = expanded(profile_path("smoke", ROOT))
    (folder / "params.yaml").write_text(text)
    checkout = Checkout(folder, executor)
    checkout.run("git", "init", "-q")
    checkout.commit("start")
    return checkout
