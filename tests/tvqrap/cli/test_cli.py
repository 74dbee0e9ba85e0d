"""The commands, from the outside."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner, Result

import tvqrap
from tvqrap.architecture import Architecture
from tvqrap.cli.main import app
from tvqrap.model_folder import save_model
from tvqrap.network import UpscalerNetwork

ROOT = Path(__file__).parents[3]
TINY = Architecture(width=0.125, codebook=16, texture=8, structure=32)


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("models") / "tiny"
    save_model(path, "upscaler", UpscalerNetwork(TINY), TINY, {})
    return path


def image(path: Path, width: int, height: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_help_is_quick_and_loads_no_torch() -> None:
    code = "import sys; from tvqrap.cli.main import app\ntry: app(['--help'])\n"
    code += "finally: assert 'torch' not in sys.modules and 'numpy' not in sys.modules"
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        seconds.append(time.perf_counter() - start)
        assert done.returncode == 0, done.stderr
    assert "upscale" in done.stdout
    # Half a second is the aim; a loaded machine gets three times that.
    assert min(seconds) < 1.5


def test_version() -> None:
    assert run("--version").output == f"tvqrap {tvqrap.__version__}\n"


class TestEvaluate:
    @pytest.fixture
    def folders(self, tmp_path: Path) -> Path:
        for name in ("one", "sub/two"):
            image(tmp_path / "gt" / f"{name}.png", 64, 64)
            image(tmp_path / "lq" / f"{name}.jpg", 16, 16)
            image(tmp_path / "theirs" / f"{name}.png", 64, 64)
        return tmp_path

    def evaluate(self, folders: Path, *models: object, lq: bool = True) -> Result:
        given = ["--lq", folders / "lq"] if lq else []
        out = ["-o", folders / "out", "--metrics", "psnr_y,gmsd"]
        return run("evaluate", *models, "--gt", folders / "gt", *given, *out)

    def test_models_bicubic_and_finished_images(self, folders: Path, model: Path) -> None:
        result = self.evaluate(folders, "bicubic", model, folders / "theirs")
        assert result.exit_code == 0, result.output
        scores = json.loads((folders / "out" / "metrics.json").read_text())
        assert list(scores) == ["bicubic", "tiny", "theirs"]
        assert scores["theirs"]["psnr_y"] > 70 > scores["bicubic"]["psnr_y"]
        details = json.loads((folders / "out" / "scores.json").read_text())
        assert len(details["protocol"]["models"]["tiny"]) == 64
        assert (folders / "out" / "pictures" / "sheet.png").is_file()
        assert "--overwrite" in self.evaluate(folders, "bicubic").output

    def test_what_fails_is_named_and_not_averaged(self, folders: Path) -> None:
        cut = folders / "theirs" / "one.png"
        cut.write_bytes(cut.read_bytes()[:1000])
        result = self.evaluate(folders, folders / "theirs", lq=False)
        assert result.exit_code == 1 and "one.png: cannot be read" in result.output
        scores = json.loads((folders / "out" / "metrics.json").read_text())
        assert scores["theirs"]["psnr_y"] > 70

    def test_names_and_sizes_that_do_not_match_are_listed(self, folders: Path) -> None:
        image(folders / "lq" / "one.jpg", 15, 16)
        result = self.evaluate(folders, "bicubic")
        assert result.exit_code == 1 and "one.jpg is 15x16, expected 16x16" in result.output
        image(folders / "lq" / "three.jpg", 16, 16)
        (folders / "lq" / "sub" / "two.jpg").unlink()
        output = self.evaluate(folders, "bicubic").output
        assert "sub/two is not in" in output and "three is only in" in output
        shutil.rmtree(folders / "lq")
        (folders / "lq").mkdir()
        assert "holds no images" in self.evaluate(folders, "bicubic").output

    def test_wrong_use(self, folders: Path, model: Path) -> None:
        for arguments, code, message in (
            (["bicubic", "-o", "x"], 2, "either --gt"),
            (["bicubic", "-o", "x", "--gt", folders / "gt"], 2, "--lq is missing"),
            (["nothing", "-o", "x", "--gt", folders / "gt"], 1, "expected `bicubic`"),
            (["bicubic", "-o", "x", "--pairs", "p", "--metrics", "new"], 2, "'new' is not known"),
            (["bicubic", "bicubic", "-o", "x", "--pairs", "p"], 2, "given twice"),
            ([folders / "theirs", "-o", "x", "--pairs", "p"], 2, "finished images need --gt"),
            (["bicubic", "-o", "x", "--pairs", folders / "gt"], 1, "manifest"),
        ):
            result = run("evaluate", *arguments)
            assert result.exit_code == code and message in result.output, result.output


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
        result = run("params", "use", "desktop")
        assert result.exit_code == 2 and "'desktop' is not known" in result.output

    def test_outside_a_checkout(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.chdir(os.sep)
        result = run("params", "show")
        assert result.exit_code == 1 and "needs a checkout" in result.output
