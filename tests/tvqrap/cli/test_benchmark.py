"""`tvqrap-cli benchmark`, from the outside."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from tests.support.commands import run
from tvqrap.cost import benchmark as cost
from tvqrap.cost import peak_memory
from tvqrap.pretrained.upscaler import load_upscaler


def test_a_table_of_costs(model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cost, "MATRIX", 64)
    out = tmp_path / "costs.json"
    arguments = ["--sides", "64,128", "--rounds", "1", "-o", out]
    held = np.ones(500 << 20, dtype=np.uint8)  # memory of this process is not counted
    result = run("benchmark", model, *arguments)
    del held
    assert result.exit_code == 0, result.output
    assert "GFLOP/s measured" in result.output
    costs = json.loads(out.read_text())["costs"]
    assert [entry["side"] for entry in costs] == [64, 128]
    assert costs[1]["operations"] > 3 * costs[0]["operations"] > 0
    assert costs[0]["processor_milliseconds"] > 0 and costs[0]["milliseconds"] > 0
    numbers = sum(p.numel() for p in load_upscaler(model).parameters())
    assert costs[0]["parameters"] == numbers
    assert all(4 * numbers < entry["peak_bytes"] < 250 << 20 for entry in costs), costs


def test_unknown_peak_memory_has_a_reason(
    model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cost, "MATRIX", 64)
    monkeypatch.setattr(peak_memory, "RESET", tmp_path / "none" / "clear_refs")
    received: list[object] = []
    cost.report_peak(str(model), 64, "cpu", SimpleNamespace(send=received.append))  # type: ignore[arg-type]
    assert received == [f"{tmp_path}/none/clear_refs cannot be written (No such file or directory)"]
    monkeypatch.setattr(cost, "measure_peak", lambda *arguments: "no such luck")
    result = run("benchmark", model, "--sides", "64", "--rounds", "1")
    assert result.exit_code == 0 and "| – |" in result.output
    assert "peak memory is not known: no such luck" in result.output


def test_wrong_use() -> None:
    assert "expected numbers" in run("benchmark", "--sides", "64,x").output
    result = run("benchmark", "nothing", "--sides", "16")
    assert result.exit_code == 1 and "rrdb, swinir, dat, hat" in result.output
