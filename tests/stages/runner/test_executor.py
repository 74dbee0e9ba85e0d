"""Where a stage's tasks run, and on how many workers."""

import os

import pytest

from stages.runner.executor import Executor, chosen_executor
from tvqrap.runtime.errors import UsageError


@pytest.fixture(autouse=True)
def nothing_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TVQRAP_EXECUTOR", "TVQRAP_WORKERS", "RAY_ADDRESS"):
        monkeypatch.delenv(name, raising=False)


def test_the_usual_place_unless_the_environment_names_another(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cores = len(os.sched_getaffinity(0))
    assert chosen_executor("processes") == Executor("processes", cores)
    assert chosen_executor("ray") == Executor("ray", cores)
    monkeypatch.setenv("TVQRAP_WORKERS", "3")
    for place in ("serial", "processes", "ray"):
        monkeypatch.setenv("TVQRAP_EXECUTOR", place)
        assert chosen_executor("processes") == chosen_executor("ray") == Executor(place, 3)  # type: ignore[arg-type]


def test_a_cluster_is_filled_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", "head:6379")
    cores = len(os.sched_getaffinity(0))
    assert chosen_executor("ray").count > 10_000
    assert chosen_executor("processes").count == cores


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "TVQRAP_EXECUTOR",
            "moon",
            "TVQRAP_EXECUTOR is 'moon', expected one of serial, processes, ray",
        ),
        ("TVQRAP_WORKERS", "0", "TVQRAP_WORKERS is '0', expected a number of 1 or more"),
        ("TVQRAP_WORKERS", "many", "TVQRAP_WORKERS is 'many', expected a number of 1 or more"),
    ],
)
def test_anything_else_is_refused(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(UsageError, match=said):
        chosen_executor("processes")
