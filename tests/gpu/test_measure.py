"""The measurements of `make test-gpu` on a CPU with a tiny network, so that they keep working."""

import pytest

from stages.params import Params, load_params
from stages.profile import profile_path
from tests.benchmarks.bench_training import with_batch
from tests.gpu.measure import (
    COLUMNS,
    PLAIN,
    RECOMPUTED,
    Mode,
    Table,
    measure_loader,
    measure_stage,
    measure_two_processes,
    measure_upscaling,
)
from tests.support.paths import ROOT

pytestmark = pytest.mark.slow


@pytest.fixture
def params(monkeypatch: pytest.MonkeyPatch) -> Params:
    monkeypatch.chdir(ROOT)
    found = with_batch(load_params(profile_path("smoke", ROOT)), 4)
    architecture = {"width": 0.0625, "codebook": 16}
    return found.model_copy(update=architecture)


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("mode", [*PLAIN, RECOMPUTED], ids=lambda mode: mode.name)
def test_a_stage_gives_a_row(mode: Mode, number: int, params: Params) -> None:
    table = Table()
    stage = measure_stage(table, params, "cpu", number, mode)
    (row,) = table.rows
    assert row[""].startswith(f"stage {number}, 4 crops of 64, {mode.name}")
    assert float(row["samples/s"]) > 0 and row["peak GB"] == "–"
    assert stage.cost.kept > 0


def test_the_rest_gives_rows_of_one_table(params: Params) -> None:
    table = Table()
    measure_upscaling(table, params, "cpu", 32)
    assert measure_loader(table, params, "cpu", PLAIN[0]) > 0
    assert measure_two_processes(table, params, "cpu", PLAIN[0])
    lines = table.markdown("cpu").splitlines()
    assert lines[0].count("|") == len(COLUMNS) + 1
    assert [line.split("|")[1].strip() for line in lines[2:5]] == [
        "upscaling 32x32",
        "stage 2 from the loader, float32",
        "stage 2, two processes on one device (gloo), float32",
    ]
    assert "exchange" in lines[4] and "states equal" in lines[4]
