"""One CUDA device: every stage of the paper's network, upscaling, loading, two processes.

`make test-gpu` runs it. Each measurement is a row of the table that ends the run. What starts after
`SECONDS` is skipped, so that the run ends within eight minutes; compiled stages come last.
"""

import gc
import time
from collections.abc import Iterator

import pytest
import torch

from stages.params import Params, load_params
from stages.profile import profile_path
from tests.gpu.measure import (
    COMPILED,
    PLAIN,
    RECOMPUTED,
    Mode,
    Table,
    measure_loader,
    measure_stage,
    measure_two_processes,
    measure_upscaling,
    waits_for_device,
    with_packaged_distance,
)
from tests.support.paths import ROOT

pytestmark = pytest.mark.gpu

SECONDS = 330
STARTED = time.monotonic()


@pytest.fixture(scope="module")
def params() -> Params:
    return with_packaged_distance(load_params(profile_path("paper", ROOT)))


@pytest.fixture(autouse=True)
def in_time(table: Table) -> Iterator[None]:
    """Skips what would start too late, and gives memory back after each test."""
    if time.monotonic() - STARTED > SECONDS:
        pytest.skip(f"{SECONDS} seconds are over")
    yield
    gc.collect()
    torch.cuda.empty_cache()


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("mode", [*PLAIN, RECOMPUTED], ids=lambda mode: mode.name)
def test_a_stage_takes_steps_without_waiting(
    mode: Mode, number: int, params: Params, table: Table
) -> None:
    try:
        stage = measure_stage(table, params, "cuda", number, mode)
    except torch.OutOfMemoryError:
        table.add(f"stage {number}, {mode.name}", {"note": "does not fit the device's memory"})
        pytest.skip("does not fit the device's memory")
    waits = waits_for_device(stage)
    table.rows[-1]["note"] = waits or "no step waits for the device"
    assert waits is None


@pytest.mark.parametrize("side", [64, 128])
def test_upscaling(side: int, params: Params, table: Table) -> None:
    measure_upscaling(table, params, "cuda", side)
    row = table.rows[-1]
    assert float(row["samples/s"]) > 0 and float(row["peak GB"]) > 0


def test_the_loader_keeps_up(params: Params, table: Table) -> None:
    ratio = measure_loader(table, params, "cuda", PLAIN[1])
    assert ratio < 1.2, "a fifth of the time or more is lost to loading"


def test_two_processes_on_one_device_end_equal(params: Params, table: Table) -> None:
    assert measure_two_processes(table, params, "cuda", PLAIN[1])


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("mode", COMPILED, ids=lambda mode: mode.name)
def test_compiled_stages(mode: Mode, number: int, params: Params, table: Table) -> None:
    try:
        stage = measure_stage(table, params, "cuda", number, mode)
    except torch.OutOfMemoryError:
        table.add(f"stage {number}, {mode.name}", {"note": "does not fit the device's memory"})
        pytest.skip("does not fit the device's memory")
    assert waits_for_device(stage) is None
