"""Share of a training step that the exchange of gradients between two workers takes.

    python -m tests.benchmarks.bench_exchange [--params stages/profiles/paper.yaml] [--stage 2]

Two processes train one stage and exchange over gloo. With `--device cuda` both use one GPU, which
NCCL refuses; the exchange then goes through the machine's memory. Each step and each sum is timed
in wall-clock seconds after the device has finished, and medians are printed. Gradients are summed
after the backward pass, so the share is the most that an overlap of both could save.
"""

import argparse
import json
import os
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, multiprocessing
from torch import distributed as dist

from stages.params import Params, load_params
from tests.benchmarks.bench_training import stages, with_batch
from tvqrap.config.training import Compute
from tvqrap.training.checkpoint import digest
from tvqrap.training.distributed import Workers, joined


@dataclass(frozen=True)
class Exchange:
    """What two workers measured."""

    step: float
    """Median seconds of a step."""
    exchange: float
    """Median seconds of all sums of a step."""
    equal: bool
    """Whether both have the same state in the end."""


@dataclass(frozen=True)
class TimedWorkers(Workers):
    """Workers that time their sums."""

    device: str = "cpu"
    spent: list[float] = field(default_factory=list)

    def all_reduce(self, tensors: Sequence[Tensor]) -> None:
        finish(self.device)
        start = time.perf_counter()
        super().all_reduce(tensors)
        finish(self.device)
        self.spent.append(time.perf_counter() - start)


def finish(device: str) -> None:
    """Waits for the work of a CUDA device."""
    if device != "cpu":
        torch.cuda.synchronize()


def two_workers(params: Params, compute: Compute, stage: int, repeats: int) -> Exchange:
    """Runs a stage in two processes on one device."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        started = [
            context.Process(
                target=_work, args=(rank, port, folder, params, compute, stage, repeats)
            )
            for rank in range(2)
        ]
        for process in started:
            process.start()
        for process in started:
            process.join()
        if any(process.exitcode for process in started):
            raise RuntimeError(f"exit codes {[process.exitcode for process in started]}")
        first, second = (json.loads((Path(folder) / str(rank)).read_text()) for rank in range(2))
    return Exchange(
        max(first["step"], second["step"]),
        min(first["exchange"], second["exchange"]),  # the other one waits for its turn, too
        first["digest"] == second["digest"],
    )


def _work(
    rank: int,
    port: str,
    folder: str,
    params: Params,
    compute: Compute,
    stage: int,
    repeats: int,
) -> None:
    # Both have the first device.
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK="0")
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.manual_seed(0)
    dist.init_process_group("gloo")
    device = compute.device
    with joined(device, 2) as workers:
        timed = TimedWorkers(workers.rank, workers.count, device)
        chosen = next(stages(params, compute, [stage], timed))
        steps, exchanges = [], []
        for turn in range(repeats + 1):
            timed.spent.clear()
            workers.barrier()
            finish(device)
            start = time.perf_counter()
            chosen.update()
            finish(device)
            if turn:
                steps.append(time.perf_counter() - start)
                exchanges.append(sum(timed.spent))
        found = {
            "step": median(steps),
            "exchange": median(exchanges),
            "digest": digest(chosen.state()),
        }
        (Path(folder) / str(rank)).write_text(json.dumps(found))
        workers.barrier()
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--stage", type=int, default=2, choices=(1, 2, 3))
    parser.add_argument("--batch", type=int, help="in place of the params' batches")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    params = load_params(options.params)
    if options.batch:
        params = with_batch(params, options.batch)
    threads = 1 if options.device == "cpu" else params.compute.threads
    compute = params.compute.model_copy(
        update={"device": options.device, "workers": 2, "threads": threads}
    )
    found = two_workers(params, compute, options.stage, options.repeats)
    print(
        f"{options.params}, stage {options.stage}, two workers on {options.device}: step "
        f"{found.step:.3f} s, exchange {found.exchange:.3f} s ({found.exchange / found.step:.1%})"
    )


if __name__ == "__main__":
    main()
