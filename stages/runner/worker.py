"""Runs a training stage as one of its workers."""

from collections.abc import Callable

from stages.runner.stage import Stage
from tvqrap.training.distributed import Workers, joined


def as_worker(body: Callable[[Stage, Workers], None], stage: Stage) -> None:
    """Joins the other workers, makes sure that they run the same stage, and runs its body."""
    compute = stage.params.compute
    with joined(compute.device, compute.workers) as workers:
        workers.check_equal("params, inputs and code", stage.fingerprint)
        body(stage, workers)
