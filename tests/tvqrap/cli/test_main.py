"""The commands, from the outside."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tvqrap
from stages.profile import expanded, profile_path
from tests.support.commands import run
from tests.support.paths import ROOT


def test_help_and_refused_options_load_no_large_library() -> None:
    """In one process for all commands; a library that one loads would be seen at the end."""
    code = """
import sys
from typer.main import get_command
from tvqrap.cli.main import app

def ends(words, code):
    try:
        app(words)
    except SystemExit as end:
        assert end.code == code, words

def show(command, words):
    ends([*words, "--help"], 0)
    for name, inner in getattr(command, "commands", {}).items():
        show(inner, [*words, name])

def check(*libraries):
    assert not {*libraries} & set(sys.modules), {*libraries} & set(sys.modules)

show(get_command(app), [])
check("torch", "numpy", "PIL", "starlette", "pydantic", "rich")
for words in ("push . a", "card . --author a", "upscale a.png --device tpu",
              "upscale a.png -o a.gif", "ui --device tpu", "ui --host no.such.host.invalid"):
    ends(words.split(), 2)
check("torch", "numpy", "PIL", "starlette")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    for described in ("Enlarge photographs of any size", "Check shards of tokens"):
        assert described in done.stdout


@pytest.mark.parametrize("module", ["tvqrap", "tvqrap.cli.main"])
def test_modules_are_the_command_line_too(module: str) -> None:
    words = [sys.executable, "-m", module, "--version"]
    done = subprocess.run(words, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"tvqrap {tvqrap.__version__}\n")


def test_errors_hold_no_control_characters() -> None:
    result = run("upscale", "\x1b2Jnone.png", "-o", "out")
    assert result.exit_code == 1
    assert "error: \\x1b2Jnone.png: no such file\n" in result.output
    assert "\x1b" not in result.output


def test_a_file_in_an_outputs_way_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    packaged = ROOT / "tvqrap/weights/rap"
    for words in (
        ("convert", packaged, "-o", tmp_path / "file", "--dtype", "float16"),
        ("average", packaged, packaged, "-o", tmp_path / "file/x"),
        ("benchmark", "package", "--sides", "16", "-o", tmp_path / "file"),
        ("benchmark", "package", "--sides", "16", "-o", tmp_path),
    ):
        result = run(*words)
        assert result.exit_code == 1 and isinstance(result.exception, SystemExit), words
        assert str(tmp_path) in result.output
        assert len(result.output.splitlines()) == 1, result.output
    assert (tmp_path / "file").read_text() == "mine"


class TestParams:
    @pytest.fixture(autouse=True)
    def checkout(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        shutil.copytree(ROOT / "stages" / "profiles", tmp_path / "stages" / "profiles")
        shutil.copy(ROOT / "params.yaml", tmp_path)
        (tmp_path / "dvc.yaml").touch()
        (tmp_path / "deeper").mkdir()
        monkeypatch.chdir(tmp_path / "deeper")
        return tmp_path

    def test_show_and_check(self, checkout: Path) -> None:
        assert run("params", "show").output == (checkout / "params.yaml").read_text()
        assert run("params", "check").exit_code == 0
        (checkout / "params.yaml").write_text("seed: 0\nnew: 1\n")
        result = run("params", "check")
        assert result.exit_code == 2 and "params.yaml" in result.output
        assert len(result.output.splitlines()) == 1

    def test_use(self, checkout: Path) -> None:
        (checkout / "params.yaml").write_text("broken")
        profiles = [path.stem for path in (checkout / "stages" / "profiles").glob("*.yaml")]
        assert "laptop" in profiles
        assert run("params", "use", "laptop").exit_code == 0
        expected = (checkout / "stages" / "profiles" / "laptop.yaml").read_bytes()
        assert (checkout / "params.yaml").read_bytes() == expected
        assert run("params", "use", "smoke").exit_code == 0
        assert (checkout / "params.yaml").read_text() == expanded(profile_path("smoke", ROOT))
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("TVQRAP_WEIGHTS", str(checkout))
            patch.setenv("TORCH_HOME", str(checkout))
            result = run("params", "use", "paper")
        assert result.exit_code == 0 and "weights are missing: lpips needs" in result.output
        result = run("params", "use", "desktop")
        assert result.exit_code == 2 and "'desktop' is not known" in result.output

    def test_outside_a_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(os.sep)
        result = run("params", "show")
        assert result.exit_code == 1 and "needs a checkout" in result.output
