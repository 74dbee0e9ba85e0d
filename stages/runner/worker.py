"""Runs a training stage as one of its workers, and says how many there are."""

import os
from collections.abc import Callable

from stages.params import Params
from stages.runner.stage import Stage
from tvqrap.config.workers import Training, batch_sizes, worker_count
from tvqrap.runtime.device import worker_devices
from tvqrap.runtime.errors import UsageError
from tvqrap.training.distributed import COUNT, Workers, joined

SECTIONS = {"train_tokenizer": "tokenizer", "train_predictor": "predictor", "finetune_rap": "rap"}
"""Section of the params of each training stage."""


def as_worker(body: Callable[[Stage, Workers], None], stage: Stage) -> None:
    """Joins the other workers, makes sure that they run the same stage, and runs its body."""
    expected = workers_of(stage.name, stage.params)
    with joined(stage.params.compute.device, expected) as workers:
        workers.check_equal("params, inputs and code", stage.fingerprint)
        body(stage, workers)


def workers_of(name: str, params: Params) -> int:
    """Number of workers of a training stage (`tvqrap.config.workers`).

    `compute.workers: auto` stands for the workers that were started, if they were; else for the
    CUDA devices of this machine. Raises `UsageError` where it should stand for a Ray cluster.
    """
    return worker_count(_training(name, params), params.compute, _available(params))


def fewer_workers_note(name: str, params: Params) -> str | None:
    """A line that says why a stage has fewer workers than `compute.workers`; None where it has."""
    training, compute = _training(name, params), params.compute
    asked = _available(params) if compute.workers == "auto" else compute.workers
    count = workers_of(name, params)
    if training.workers is not None or count == asked:
        return None
    sizes = ", then ".join(str(size) for size in batch_sizes(training).values())
    section = SECTIONS[name]
    return (
        f"{count} of {asked} workers train, as batches of {sizes} cannot be divided among more "
        f"({section}.batch_size, {section}.workers)"
    )


def _training(name: str, params: Params) -> Training:
    training: Training = getattr(params, SECTIONS[name])
    return training


def _available(params: Params) -> int:
    """The number that `compute.workers: auto` stands for."""
    compute = params.compute
    if COUNT in os.environ:
        return int(os.environ[COUNT])
    if compute.workers == "auto" and os.environ.get("RAY_ADDRESS"):
        raise UsageError("compute.workers is auto; expected a number where RAY_ADDRESS is set")
    return worker_devices(compute.device)
