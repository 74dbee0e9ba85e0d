"""Benchmarks that nobody runs for a while still start."""

import importlib
import sys

import pytest

from tests.support.paths import ROOT

NAMES = sorted(path.stem for path in (ROOT / "tests/benchmarks").glob("bench_*.py"))


@pytest.mark.parametrize("name", NAMES)
def test_each_prints_its_options(
    name: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = importlib.import_module(f"tests.benchmarks.{name}")
    monkeypatch.setattr(sys, "argv", [name, "--help"])
    with pytest.raises(SystemExit) as caught:
        module.main()
    assert caught.value.code == 0
    assert "usage:" in capsys.readouterr().out
