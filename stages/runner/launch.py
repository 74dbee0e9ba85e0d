"""Starts the workers of a training stage.

Some processes (`workers`) run the same stage on this machine; this module starts them and passes
signals to them. torchrun can start them too, on several machines (`torchrun ... -m
stages.train_tokenizer`), and so can Ray Train on the cluster at RAY_ADDRESS. In all cases workers
find each other by the variables of torchrun, and the first worker writes the results.
"""

import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

import psutil

from stages.params import load_params
from stages.runner.stage import Stage, run_stage
from stages.runner.watchdog import exit_with_parent
from stages.runner.worker import as_worker, fewer_workers_note, workers_of
from tvqrap.runtime.errors import UserError
from tvqrap.training.distributed import COUNT, LOCAL_RANK, OTHERS_GONE, RANK, Workers

FAILURE_SECONDS = 15.0
"""Time that workers have to notice that one of them failed."""
SAVING_SECONDS = 300.0
"""Time that they have to save and stop after a signal."""
STOPPED = {128 + signal.SIGINT, 128 + signal.SIGTERM}


def run_training(name: str, body: Callable[[Stage, Workers], None]) -> NoReturn:
    """Runs a training stage in the current directory, which is the top of a checkout, and exits."""
    started = COUNT in os.environ
    try:
        params = load_params()
        count = workers_of(name, params)
        note = None if started else fewer_workers_note(name, params)
    except UserError as error:
        print(f"{name}: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    if note:
        print(f"{name}: {note}", file=sys.stderr, flush=True)
    if count > 1 and not started:
        if os.environ.get("RAY_ADDRESS"):
            from stages.runner.ray_train import train_on_ray

            run_stage(name, train_on_ray)
        try:
            code = start([sys.executable, "-m", f"stages.{name}"], count)
        except OSError as error:  # no space for the output of the workers, no memory for them
            print(f"{name}: {error.strerror} ({error.filename or 'workers'})", file=sys.stderr)
            code = UserError.exit_code
        sys.exit(code)
    if started:
        exit_with_parent(psutil.Process().parent(), "the launcher of this worker")
    run_stage(name, partial(as_worker, body), leads=int(os.environ.get(RANK, 0)) == 0)


def start(command: Sequence[str], count: int) -> int:
    """Runs a command as `count` workers; returns 0, or the exit code of the first that failed.

    The output of worker 0 is shown at once. That of another worker is shown if it fails first, or
    tells more than that the others are gone.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    workers: list[subprocess.Popen[bytes]] = []

    def pass_on(number: int, frame: object) -> None:
        for worker in workers:
            worker.send_signal(number)

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, pass_on)
    with tempfile.TemporaryDirectory() as folder:
        for rank in range(count):
            variables = {RANK: rank, COUNT: count, LOCAL_RANK: rank, "MASTER_PORT": port}
            output = (Path(folder) / str(rank)).open("wb") if rank else None
            workers.append(
                subprocess.Popen(
                    command,
                    env={
                        **os.environ,
                        "MASTER_ADDR": "127.0.0.1",
                        **{key: str(value) for key, value in variables.items()},
                    },
                    stdout=output,
                    stderr=output,
                    # The terminal's Ctrl-C reaches this process alone, which passes it on once.
                    start_new_session=True,
                )
            )
        failed = _wait(workers)
        if failed is None:
            return 0
        said: dict[int, str] = {}
        for rank, worker in enumerate(workers[1:], start=1):
            code = worker.returncode
            text = (Path(folder) / str(rank)).read_text(errors="replace").strip()
            if code not in STOPPED and (code > 0 or rank == failed):
                said[rank] = text or f"ended with code {code}"
        # Others can end before it is seen which of them was the first.
        causes = {rank: text for rank, text in said.items() if OTHERS_GONE not in text}
        alone = {rank: text for rank, text in said.items() if rank == failed}
        for rank, text in (causes or alone).items():
            print(f"worker {rank}: {text}", file=sys.stderr)
        code = workers[failed].returncode
        return code if code > 0 else 128 - code


def _wait(workers: list[subprocess.Popen[bytes]]) -> int | None:
    """Waits for all workers; returns the number of the first that failed, None where none did.

    After a failure the others have some time to save and stop; then they are killed.
    """
    first: int | None = None
    deadline = float("inf")
    while any(worker.poll() is None for worker in workers) or first is None:
        if first is None:
            first = next((n for n, worker in enumerate(workers) if worker.poll()), None)
            if first is None and all(worker.poll() == 0 for worker in workers):
                return None
            if first is not None:
                stopped = workers[first].returncode in STOPPED
                deadline = time.monotonic() + (SAVING_SECONDS if stopped else FAILURE_SECONDS)
        if time.monotonic() > deadline:
            for worker in workers:
                worker.kill()
        time.sleep(0.05)
    return first
