"""The cluster that a run uses: its address, its token, its nodes that go while tasks run."""

import os
import secrets
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.executor.ray_cluster import ray_cluster
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UserError

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
    done = python(SCRIPT)
    assert "results [0, 1, 2, 3, 4, 5] failures []" in done.stdout, done.stderr[-3000:]


SQUARES = """
from pipeline.executor.run import run_tasks

def worker():
    return lambda number: number * number

got = {}
failures = run_tasks(worker, [2, 3], executor="ray", workers=2, on_result=got.__setitem__)
print("results", sorted(got.items()), "failures", failures)
"""


def python(script: str, **variables: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script in a process whose environment names a cluster, or a token, only as given."""
    ray = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in ray}
    return subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={"RAY_AUTH_TOKEN": "1" * 64, **environment, **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@contextmanager
def started_head(environment: dict[str, str]) -> Iterator[str]:
    """The address of a cluster that `ray start --head` started in this environment."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(prefix="r", dir="/tmp", ignore_cleanup_errors=True) as folder:
        command = f"start --head --block --port {port} --num-cpus 2 --include-dashboard false"
        head = subprocess.Popen(
            [Path(sys.executable).with_name("ray"), *command.split(), "--temp-dir", folder],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), timeout=1).close()
                    break
                except OSError:
                    assert head.poll() is None and time.monotonic() < deadline
                    time.sleep(0.2)
            yield f"127.0.0.1:{port}"
        finally:
            head.terminate()
            head.wait()


@pytest.mark.slow
@pytest.mark.parametrize("mode", [None, "disabled"])
def test_a_cluster_of_ray_start_is_reached_with_the_token_of_the_home(
    mode: str | None, tmp_path: Path
) -> None:
    """As a local cluster of another program leaves it: `ray start` then demands the token."""
    token = tmp_path / ".ray/auth_token"
    token.parent.mkdir()
    token.write_text(secrets.token_hex(32))
    ray = ("RAY_ADDRESS", "RAY_AUTH_MODE", "RAY_AUTH_TOKEN")
    environment = {name: value for name, value in os.environ.items() if name not in ray}
    environment["HOME"] = str(tmp_path)
    with started_head(environment | ({"RAY_AUTH_MODE": mode} if mode else {})) as address:
        done = python(SQUARES, RAY_ADDRESS=address, RAY_AUTH_TOKEN="", HOME=str(tmp_path))
        assert "results [(0, 4), (1, 9)] failures []" in done.stdout, done.stderr[-3000:]
        if mode is None:
            wrong = python(SQUARES, RAY_ADDRESS=address, RAY_AUTH_TOKEN="2" * 64)
            last = wrong.stderr.strip().splitlines()[-1]
            assert "UserError: RAY_ADDRESS is" in last and "RAY_AUTH_TOKEN_PATH" in last


@pytest.mark.slow
def test_a_local_cluster_needs_no_home_and_no_short_tmpdir(tmp_path: Path) -> None:
    tmpdir = tmp_path / ("long" * 20)
    tmpdir.mkdir()
    done = python(SQUARES, RAY_AUTH_TOKEN="", HOME="/dev/null", TMPDIR=str(tmpdir))
    assert "results [(0, 4), (1, 9)] failures []" in done.stdout, done.stderr[-3000:]


@pytest.mark.parametrize(
    ("address", "found"),
    [
        ("127.0.0.1:1", "no connection"),
        ("raybox", "expected the HOST:PORT"),
        ("http://127.0.0.1:8265", "expected the HOST:PORT"),
        ("127.0.0.1:", "expected the HOST:PORT"),
        ("127.0.0.1:99999", "no connection"),
        ("ray://", "expected the HOST:PORT"),
    ],
)
def test_an_address_of_no_cluster_is_refused_in_one_line(
    address: str, found: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(UserError) as caught, ray_cluster():
        pytest.fail("connected")
    assert str(caught.value).startswith(f"RAY_ADDRESS is {address!r}") and found in str(
        caught.value
    )
    assert "\n" not in str(caught.value)
