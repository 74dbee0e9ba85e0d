"""`tvqrap-cli params plan`, from the outside."""

import shutil
from pathlib import Path

import pytest
from click.testing import Result

from stages.profile import expanded, profile_path
from tests.support import commands
from tests.support.paths import ROOT
from tests.support.plans import paper_plan
from tvqrap.cli.plan import duration, short


def run(*arguments: object) -> Result:
    return commands.run("params", "plan", *arguments)


@pytest.fixture(autouse=True)
def checkout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(ROOT / "stages" / "profiles", tmp_path / "stages" / "profiles")
    (tmp_path / "params.yaml").write_text(expanded(profile_path("smoke", ROOT)))
    (tmp_path / "dvc.yaml").touch()
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_the_paper_takes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("TVQRAP_WEIGHTS", raising=False)
    monkeypatch.setattr("stages.estimates.plan", lambda params: paper_plan())
    result = run("paper", "--tflops", "100")
    assert result.exit_code == 0, result.output
    lines = {line.split("  ")[0]: line for line in result.output.splitlines()}
    assert "every key is there and allowed" in result.output
    # 450 000 steps of 22.4 TFLOP at 100 TFLOP/s.
    assert lines["train_tokenizer"].split()[-4:] == ["10.1", "E", "1.17", "days"]
    assert "at 100 TFLOP/s sustained on one device (cuda), which is an assumption" in result.output
    assert "nothing is measured" in result.output
    assert "weights are missing: lpips needs LPIPS_v0.1_alex-df73285e.pth" in result.output
    assert max(len(line) for line in result.output.splitlines()[1:]) <= 100


@pytest.mark.parametrize(
    ("arguments", "file"),
    [
        ((), "params.yaml"),
        (("mine.yaml",), "mine.yaml"),
        (("laptop",), "stages/profiles/laptop.yaml"),
    ],
)
def test_which_file_is_meant(checkout: Path, arguments: tuple[str, ...], file: str) -> None:
    (checkout / file).write_text("seed: 1\nsede: 2\n")
    result = run(*arguments)
    assert result.exit_code == 2
    assert f"{file}: sede: unknown key" in result.output


def test_what_is_wrong_is_one_line() -> None:
    for arguments, words in (
        (("papre",), "profile 'papre' is not known, expected one of"),
        (("--tflops", "0"), "--tflops: found 0, expected more than 0"),
        (("--tflops", "nan"), "--tflops: found nan"),
    ):
        result = run(*arguments)
        assert result.exit_code == 2 and words in result.output, result.output
        assert len(result.output.splitlines()) == 1


def test_numbers_are_short() -> None:
    assert [short(number) for number in (0, 7, 999, 1234, 44.0e9, 1.2e19, 3e22)] == [
        "0",
        "7",
        "999",
        "1.23 k",
        "44 G",
        "12 E",
        "3e+04 E",
    ]
    assert [duration(seconds) for seconds in (0.5, 90, 7200, 200_000)] == [
        "0.5 seconds",
        "1.5 minutes",
        "2 hours",
        "2.31 days",
    ]
