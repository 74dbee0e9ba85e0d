"""A training stage on two workers, however they were started, in a copy of the project."""

import os
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tests.support.checkout import Checkout, make_checkout
from tvqrap.pretrained.folder import read_config

pytestmark = pytest.mark.slow

STAGE = [sys.executable, "-m", "stages.train_tokenizer"]
MODEL = Path("models/tokenizer")

ON_RAY = """
import os, subprocess, sys
from ray.cluster_utils import Cluster
node = {"num_cpus": 2, "object_store_memory": 100 * 2**20, "include_dashboard": False}
cluster = Cluster(initialize_head=True, head_node_args=node)
os.environ["RAY_ADDRESS"] = cluster.address
done = subprocess.run([sys.executable, "-m", "stages.train_tokenizer"])
cluster.shutdown()
sys.exit(done.returncode)
"""


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """A checkout with pairs whose params ask for two workers."""
    checkout = make_checkout(tmp_path_factory.mktemp("workers"))
    params = checkout.root / "params.yaml"
    params.write_text(params.read_text().replace("  workers: 1", "  workers: 2"))
    checkout.run(sys.executable, "-m", "stages.make_pairs")
    return checkout


@pytest.fixture(scope="module")
def trained(pairs: Checkout) -> str:
    """Fingerprint of the weights that workers make which the stage starts itself."""
    pairs.run(*STAGE)
    assert not (pairs.root / ".scratch").joinpath("train_tokenizer").exists()
    return read_config(pairs.root / MODEL).fingerprint


def test_torchrun_starts_the_same_stage(pairs: Checkout, trained: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    pairs.run(*torchrun, "--nproc-per-node", "2", "-m", "stages.train_tokenizer")
    assert read_config(pairs.root / MODEL).fingerprint == trained


def test_so_does_ray_train(pairs: Checkout, trained: str) -> None:
    pairs.run(sys.executable, "-c", ON_RAY)
    assert read_config(pairs.root / MODEL).fingerprint == trained


@pytest.mark.parametrize("victim", ["a worker", "the launcher"])
def test_killed_it_goes_on_to_the_same_weights(pairs: Checkout, trained: str, victim: str) -> None:
    process = subprocess.Popen(STAGE, cwd=pairs.root, env=pairs.environment)
    launcher, deadline = psutil.Process(process.pid), time.monotonic() + 300
    while not list(pairs.root.glob(".scratch/train_tokenizer-*/step-*.pt")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    workers = launcher.children()
    assert len(workers) == 2
    (workers[1] if victim == "a worker" else launcher).kill()
    assert process.wait(120) != 0
    _, alive = psutil.wait_procs(workers, 60)
    assert not alive, "workers end with what started them"
    done = pairs.run(*STAGE)
    assert "resumes after step" in done.stdout
    assert read_config(pairs.root / MODEL).fingerprint == trained


def test_another_number_of_workers_than_the_params_is_refused(pairs: Checkout) -> None:
    variables = {"RANK": "0", "WORLD_SIZE": "3", "LOCAL_RANK": "0"}
    done = subprocess.run(
        STAGE,
        cwd=pairs.root,
        env={**pairs.environment, **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.strip().startswith("train_tokenizer: found 3 workers, expected 2")
    assert os.linesep not in done.stderr.strip()
