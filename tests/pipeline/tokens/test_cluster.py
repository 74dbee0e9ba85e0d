"""Extraction on a Ray cluster that already runs, as RAY_ADDRESS names it."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.storage.location import Url, file_sizes
from tests.support.paths import ROOT
from tests.support.tokens import make_material
from tvqrap.architecture import Architecture

ARCHITECTURE = Architecture(width=0.25, codebook=16, texture=4, structure=16)

PREPARE = """
import os, signal, sys
from pathlib import Path
from pipeline.config import TokensSettings
from pipeline.tokens.extract import extract_set

root = Path(sys.argv[1])
settings = TokensSettings(device="cpu", batch_size=2, threads=1, gpus=1.0, storage=None)

def extract(name, **options):
    return extract_set(root / "pairs/train", root / "tokenizer", root / name, settings, **options)
"""

CLUSTER = """
import psutil
from tests.support.cluster import NodeRemover, two_nodes

here = extract("here", executor="serial", workers=1)
cluster, second = two_nodes()
os.environ["RAY_ADDRESS"] = cluster.address
there = extract("there", executor="ray", workers=1000)
assert there.root == here.root

killed = []

def kill_a_worker(samples):
    for process in psutil.Process().children(recursive=True):
        if not killed and " ".join(process.cmdline()).startswith("ray::_RayWorker"):
            process.kill()
            killed.append(process.pid)

assert extract("killed", executor="ray", workers=2, on_shard=kill_a_worker).root == here.root
assert killed

remove_a_node = NodeRemover(cluster, second, root / "removed/train")
assert extract("removed", executor="ray", workers=2, on_shard=remove_a_node).root == here.root
assert remove_a_node.workers, "the second node never had a shard in hand"
print("removed with", remove_a_node.workers)
cluster.shutdown()
"""

ODD = """
import logging
from pipeline.executor.shared_storage import WrittenProof
from pipeline.tokens import extract as extraction
from tests.support.cluster import NodeRemover, two_nodes
from tvqrap.runtime.errors import UserError

class Mount(WrittenProof):
    def check(self):
        if os.environ.get("ODD_NODE"):
            raise UserError("the odd node does not see the driver's storage")
        super().check()

extraction.WrittenProof = Mount
logging.basicConfig(level=logging.WARNING, stream=sys.stdout, format="%(message)s")
here = extract("here", executor="serial", workers=1)
cluster, second = two_nodes()
cluster.add_node(num_cpus=1, env_vars={"ODD_NODE": "1"})
os.environ["RAY_ADDRESS"] = cluster.address
remove_a_node = NodeRemover(cluster, second, root / "odd/train")
assert extract("odd", executor="ray", workers=3, on_shard=remove_a_node).root == here.root
print("removed with", remove_a_node.workers)
cluster.shutdown()
"""

ALL_ODD = """
from pipeline.executor.shared_storage import WrittenProof
from pipeline.tokens import extract as extraction
from tvqrap.runtime.errors import UserError

class Mount(WrittenProof):
    def check(self):
        raise UserError("this node does not see the driver's storage")

extraction.WrittenProof = Mount
try:
    extract("none", executor="ray", workers=2)
except UserError as error:
    print("ended with:", error)
"""

DRIVER = """
def die(samples):
    os.kill(os.getpid(), signal.SIGKILL)

extract("driver", executor="ray", workers=2, on_shard=die)
"""


STORE = """
from pipeline.storage.location import Url

store = Url(sys.argv[2])
assert not os.environ.get("RAY_ADDRESS")
pairs, tokenizer = root / "pairs/train", root / "tokenizer"
manifest = extract_set(pairs, tokenizer, store, settings, executor="ray", workers=2)
assert manifest.root == extract("beside", executor="serial", workers=1).root
"""


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a set of pairs of six shards, about a second's work each, and a tokenizer."""
    root = tmp_path_factory.mktemp("cluster")
    make_material(root, ARCHITECTURE, size=128, count=30, shard_size=5)
    return root


def python(script: str, root: Path, *more: str) -> "subprocess.CompletedProcess[str]":
    """Runs a script on the material in a process of its own, without a cluster's address."""
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    return subprocess.run(
        [sys.executable, "-c", PREPARE + script, str(root), *more],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=500,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.slow
def test_two_nodes_a_killed_worker_and_a_removed_node_give_the_same_bytes(root: Path) -> None:
    done = python(CLUSTER, root)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "removed with ['" in done.stdout
    for other in ("there", "killed", "removed"):
        assert contents(root / "here/train") == contents(root / other / "train"), other


@pytest.mark.slow
def test_a_killed_node_and_one_that_fails_its_checks_change_nothing(root: Path) -> None:
    done = python(ODD, root)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "removed with ['" in done.stdout, "the second node never had a shard in hand"
    dropped = [line for line in done.stdout.splitlines() if "goes on without the worker" in line]
    assert len(dropped) == 1 and "the odd node does not see the driver's storage" in dropped[0]
    assert contents(root / "here/train") == contents(root / "odd/train")
    rows = {name: contents(root / name / "rows/train") for name in ("here", "odd")}
    assert rows["here"] == rows["odd"]


@pytest.mark.slow
def test_a_run_without_a_fit_worker_ends_with_the_reason(root: Path) -> None:
    done = python(ALL_ODD, root)
    assert "ended with: this node does not see the driver's storage" in done.stdout, done.stderr


@pytest.mark.slow
def test_a_run_whose_driver_was_killed_is_resumed(root: Path) -> None:
    assert python(DRIVER, root).returncode == -signal.SIGKILL
    row = next((root / "driver/rows/train").glob("*.json"))
    first = root / "driver/train" / row.stem
    assert not (root / "driver/train/manifest.json").exists()
    written = first.stat().st_mtime_ns
    done = python(
        "for name in ('driver', 'whole'): extract(name, executor='serial', workers=1)", root
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert first.stat().st_mtime_ns == written, "the finished shard was made again"
    assert contents(root / "driver/train") == contents(root / "whole/train")


@pytest.mark.slow
def test_ray_workers_reach_a_store_by_their_environment(root: Path, s3: Url) -> None:
    done = python(STORE, root, str(s3))
    assert done.returncode == 0, done.stderr[-3000:]
    expected = contents(root / "beside/train")
    assert {
        name: (s3 / f"train/{name}").read_bytes() for name in file_sizes(s3 / "train")
    } == expected
