"""One behaviour with three executors: results, retries, failures, dying workers."""

import functools
import math
import os
import re
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.executor import code_digest as code
from pipeline.executor import processes, queue
from pipeline.executor.code_digest import code_digest
from pipeline.executor.outcome import Attempt, Failure, Outcome, UnfitWorkerError
from pipeline.executor.queue import TaskQueue, tasks_each
from pipeline.executor.ray_capacity import actors_that_fit
from pipeline.executor.ray_cluster import ray_cluster
from pipeline.executor.run import run_tasks
from pipeline.executor.worker import Worker
from tests.support.factories import (
    broken,
    crashing,
    failing_at_work,
    first_is_odd,
    hanging,
    in_pairs,
    squarer,
    told_apart,
)
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UserError

EXECUTORS = ["serial", "processes"]


def run(executor, tasks, tmp_path, workers=2):
    results: dict[int, int] = {}
    failures = run_tasks(
        functools.partial(squarer, tmp_path),
        tasks,
        executor=executor,
        workers=workers,
        on_result=results.__setitem__,
    )
    return results, failures


@pytest.mark.parametrize("executor", EXECUTORS)
def test_results_retries_and_failures(executor, tmp_path):
    results, failures = run(executor, [1, 3, 4, 2], tmp_path)
    assert results == {0: 1, 2: 16, 3: 4}
    assert [(f.index, f.error) for f in failures] == [(1, "ValueError: found 3")]
    assert "in square" in failures[0].traceback
    for setup in tmp_path.glob("setup*"):
        assert setup.read_text() == "once\n"


@pytest.mark.parametrize("executor", EXECUTORS)
def test_every_attempt_is_reported(executor, tmp_path):
    tries = []
    factory = functools.partial(squarer, tmp_path)
    options = {"executor": executor, "workers": 1, "on_result": lambda index, result: None}
    run_tasks(factory, [1, 3, 4], on_attempt=tries.append, **options)
    found = [(each.index, each.number, each.error) for each in tries]
    three, four = "ValueError: found 3", "ValueError: found 4"
    assert found == [(0, 1, None), (1, 1, three), (2, 1, four), (1, 2, three), (2, 2, None)]
    assert len({(each.host, each.pid) for each in tries}) == 1
    assert (tries[0].pid == os.getpid()) is (executor == "serial")
    assert tries[0].host == socket.gethostname()
    assert all("in square" in each.traceback for each in tries if each.error)


def test_processes_survive_dying_workers(tmp_path):
    results, failures = run("processes", [1, 5, 6, 2, 7], tmp_path)
    assert results == {0: 1, 2: 36, 3: 4, 4: 49}
    assert failures == [Failure(1, "worker died (exit code 7)", "")]


@pytest.mark.parametrize("executor", EXECUTORS)
def test_a_factory_that_fails_ends_the_run(executor):
    kept = []
    with pytest.raises(UserError, match="models/none: not found"):
        run_tasks(
            broken, [1, 2], executor=executor, workers=2, on_result=lambda i, r: kept.append(r)
        )
    with pytest.raises(RuntimeError, match="in the factory"):
        run_tasks(
            crashing, [1], executor=executor, workers=1, on_result=lambda i, r: kept.append(r)
        )
    assert not kept


def test_a_worker_that_fails_its_checks_is_named_and_dropped(tmp_path, caplog):
    results: dict[int, int] = {}
    failures = run_tasks(
        functools.partial(first_is_odd, tmp_path),
        [1, 2, 3, 4],
        executor="processes",
        workers=2,
        on_result=results.__setitem__,
    )
    assert results == {0: 1, 1: 4, 3: 16}
    assert [failure.index for failure in failures] == [2]
    host = socket.gethostname()
    assert f"on {host}: odd does not see the driver's storage" in caplog.text
    assert "goes on without the worker" in caplog.text


@pytest.mark.parametrize("error", [UnfitWorkerError, OSError])
def test_a_worker_that_fails_every_task_ends_no_run(error, tmp_path, caplog):
    """One that lost the driver's storage is dropped; what another one fails, others make."""
    results: dict[int, int] = {}
    failures = run_tasks(
        functools.partial(failing_at_work, tmp_path, error),
        list(range(20)),
        executor="processes",
        workers=2,
        on_result=results.__setitem__,
    )
    assert not failures and results == {number: number * number for number in range(20)}
    assert caplog.text.count("goes on without the worker") == (error is UnfitWorkerError)


def test_a_worker_whose_results_do_not_fit_is_dropped(caplog):
    """The first worker that gives a result decides the kind; the other's tasks are done again."""
    found: dict[int, int] = {}
    pids: list[int] = []

    def keep(index: int, result: tuple[int, int]) -> None:
        square, pid = result
        pids.append(pid)
        if pid != pids[0]:
            raise UnfitWorkerError("made on another machine")
        found[index] = square

    tasks = list(range(40))
    assert not run_tasks(told_apart, tasks, executor="processes", workers=2, on_result=keep)
    assert found == {number: number * number for number in tasks}
    assert len({pid for pid in pids if pid != pids[0]}) == caplog.text.count("made on another")
    with pytest.raises(UnfitWorkerError, match="none fits"):
        run_tasks(told_apart, [1], executor="processes", workers=1, on_result=refuse_all)


def refuse_all(index: int, result: object) -> None:
    raise UnfitWorkerError("none fits")


def test_a_worker_has_several_tasks_at_once():
    results: dict[int, int] = {}
    failures = run_tasks(
        in_pairs,
        [1, 2, 3, 4],
        executor="processes",
        workers=1,
        in_flight=2,
        on_result=results.__setitem__,
    )
    assert not failures and results == {0: 1, 1: 4, 2: 9, 3: 16}


def test_tasks_beside_one_that_kills_its_worker_do_not_fail(tmp_path):
    tries: list[Attempt] = []
    results: dict[int, int] = {}
    failures = run_tasks(
        functools.partial(squarer, tmp_path),
        [1, 5, 2, 6, 7],
        executor="processes",
        workers=1,
        in_flight=3,
        on_result=results.__setitem__,
        on_attempt=tries.append,
    )
    assert results == {0: 1, 2: 4, 3: 36, 4: 49}
    assert failures == [Failure(1, "worker died (exit code 7)", "")]


@pytest.mark.slow
@pytest.mark.parametrize("in_flight", [1, 3])
def test_a_task_that_hangs_is_tried_by_another_worker(tmp_path, monkeypatch, caplog, in_flight):
    for name in ("FIRST_HUNG_SECONDS", "HUNG_SECONDS"):
        monkeypatch.setattr(queue, name, 15.0)
    results: dict[int, int] = {}
    failures = run_tasks(
        functools.partial(hanging, tmp_path),
        [1, 8, 2, 9, 3],
        executor="processes",
        workers=2,
        in_flight=in_flight,
        on_result=results.__setitem__,
    )
    assert results == {0: 1, 1: 64, 2: 4, 4: 9}
    assert [failure.index for failure in failures] == [3]
    assert failures[0].error.startswith("no result from the worker ")
    assert re.search(rf"on {re.escape(socket.gethostname())} in \d\d s", caplog.text)


def test_the_time_limit_follows_the_longest_task(monkeypatch):
    tasks: TaskQueue[int] = TaskQueue(3, lambda index, result: None, lambda attempt: None)
    assert TaskQueue(1, lambda *_: None, lambda _: None, may_hang=False).limit == math.inf
    assert tasks.limit == 4 * 3600
    tasks.settle(0, Outcome(result=1, seconds=30))
    assert tasks.limit == 600
    tasks.settle(1, Outcome(result=1, seconds=90))
    assert tasks.limit == 900


def test_few_tasks_are_shared_among_all_workers():
    assert [tasks_each(left, 4, 3) for left in (1, 4, 5, 8, 9, 100)] == [1, 1, 2, 2, 3, 3]
    assert tasks_each(5, 0, 3) == 3


@pytest.mark.parametrize("executor", EXECUTORS)
def test_an_error_of_the_receiver_ends_the_run(executor, tmp_path):
    def refuse(index: int, result: int) -> None:
        raise OSError("disk full")

    worker = functools.partial(squarer, tmp_path)
    with pytest.raises(OSError, match="disk full"):
        run_tasks(worker, [1, 2, 7], executor=executor, workers=2, on_result=refuse)


def test_no_tasks_and_no_workers(tmp_path):
    assert run("processes", [], tmp_path) == ({}, [])
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="0 workers"):
        run("serial", [1], tmp_path, workers=0)


DRIVER = """
import os, sys, time
from pipeline.executor.run import run_tasks
def worker():
    def work(path):
        open(path, "w").write(str(os.getpid()))
        time.sleep(60)
    return work
if __name__ == "__main__":
    run_tasks(worker, sys.argv[1:], executor="processes", workers=2, on_result=print)
"""


def test_workers_do_not_outlive_a_killed_driver(tmp_path):
    script = tmp_path / "driver.py"
    script.write_text(DRIVER)
    notes = [tmp_path / "a", tmp_path / "b"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    driver = subprocess.Popen([sys.executable, str(script), *map(str, notes)], env=environment)
    deadline = time.monotonic() + 60
    while not all(note.exists() and note.read_text() for note in notes):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    driver.send_signal(signal.SIGKILL)
    driver.wait()
    while any(alive(int(note.read_text())) for note in notes):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    except FileNotFoundError:
        return False


def test_ray_gives_the_same(ray_cluster, tmp_path):
    results, failures = run("ray", [1, 3, 4, 2], tmp_path, workers=5)
    assert results == {0: 1, 2: 16, 3: 4}
    assert [(f.index, f.error) for f in failures] == [(1, "ValueError: found 3")]
    assert len(list(tmp_path.glob("setup*"))) <= 2  # no more actors than fit two CPUs
    with pytest.raises(UserError, match="models/none: not found"):
        run_tasks(broken, [1], executor="ray", workers=1, on_result=print)
    with pytest.raises(UserError, match="no node has 64 cpus"):
        run_tasks(broken, [1], executor="ray", workers=1, on_result=print, cpus=64)


def test_a_worker_with_other_code_is_refused(monkeypatch, tmp_path):
    found = code_digest()[:12]
    monkeypatch.setattr(processes, "code_digest", lambda: "0" * 64)
    with pytest.raises(UserError, match=rf"imports code {found}, expected the driver's 0{{12}}$"):
        run("processes", [1], tmp_path)
    assert not list(tmp_path.iterdir())


def test_code_edited_during_a_run_changes_nothing_in_its_workers(monkeypatch, tmp_path):
    module = tmp_path / "code/module.py"
    module.parent.mkdir()
    module.write_text("one = 1\n")
    monkeypatch.setattr(code, "package_folders", lambda: [module.parent])
    code_digest.cache_clear()
    try:
        worker = Worker(functools.partial(squarer, tmp_path), code_digest())
        module.write_text("one = 2\n")
        assert worker.run(2).result == 4
        begun = code_digest()
        code_digest.cache_clear()
        assert code_digest() != begun, "another process sees what was edited"
    finally:
        code_digest.cache_clear()


def test_a_local_cluster_gets_three_tries_on_a_busy_machine(monkeypatch):
    import ray

    said = ["timed out during startup", "timed out during startup", "no memory"]
    tries = []

    def init(*given, **options):
        tries.append(given)
        raise Exception(f"The current node {said[len(tries) - 1]}.")

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    monkeypatch.setattr(ray, "init", init)
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(UserError, match=r"did not start: Exception: .* no memory"), ray_cluster():
        pass
    assert tries == [("local",)] * 3
    tries.clear()
    said[2] = said[0]
    with pytest.raises(UserError, match="no local cluster in 3 tries"), ray_cluster():
        pass


@pytest.mark.parametrize(
    ("node", "cpus", "gpus", "fitting"),
    [
        ({"CPU": 16.0}, 1, 0, 16),
        ({"CPU": 16.0}, 4, 1, 0),
        ({"CPU": 16.0, "GPU": 2.0}, 4, 1, 2),
        ({"CPU": 16.0, "GPU": 2.0}, 1, 0.5, 4),
        ({"CPU": 3.0, "GPU": 2.0}, 1, 0.5, 3),
        ({"CPU": 16.0, "GPU": 2.0}, 1, 0.4, 4),  # two on each GPU; their rests of 0.2 are no fifth
        ({"CPU": 16.0, "GPU": 1.4}, 1, 0.4, 3),
        ({"CPU": 16.0, "GPU": 1.0}, 1, 1 / 3, 3),
        ({"CPU": 16.0, "GPU": 0.3}, 1, 1 / 3, 0),
        ({"CPU": 16.0, "GPU": 5.0}, 1, 2, 2),
        ({"GPU": 4.0}, 1, 1, 0),
    ],
)
def test_actors_that_fit_a_node(node, cpus, gpus, fitting):
    assert actors_that_fit([node], cpus, gpus) == fitting


def test_an_actor_has_to_fit_one_node():
    assert actors_that_fit([{"CPU": 1.0}, {"CPU": 1.0}], 2, 0) == 0
    assert actors_that_fit([{"CPU": 1.0}, {"CPU": 4.0}], 2, 0) == 2
    assert actors_that_fit([], 1, 0) == 0
