"""Nodes of a cluster that go while tasks run on them."""

import os
import subprocess
import sys

import pytest

from tests.support.paths import ROOT

SCRIPT = """
import os, threading, time
from pipeline.executor.run import run_tasks
from tests.support.cluster import two_nodes

def worker():
    def work(number):
        time.sleep(4)
        return number
    return work

cluster, second = two_nodes()
os.environ["RAY_ADDRESS"] = cluster.address
got = []

def keep(index, result):
    assert index == result
    got.append(index)
    if len(got) == 2:  # both nodes have a worker, and each has just begun its second task
        remove = lambda: cluster.remove_node(second, allow_graceful=False)
        threading.Timer(1, remove).start()

failures = run_tasks(worker, list(range(6)), executor="ray", workers=2, on_result=keep)
print("results", sorted(got), "failures", failures)
cluster.shutdown()
"""


@pytest.mark.slow
def test_tasks_of_a_node_that_is_gone_are_run_elsewhere() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert "results [0, 1, 2, 3, 4, 5] failures []" in done.stdout, done.stderr[-3000:]
