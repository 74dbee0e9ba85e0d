"""Workers and microbatches of a training stage: its own params, else those of `compute`."""

from tvqrap.config.training import Compute, PredictorTraining, RapTraining, TokenizerTraining

Training = TokenizerTraining | PredictorTraining | RapTraining


def batch_sizes(training: Training) -> dict[str, int]:
    """Batch sizes of a stage by key within its section."""
    if isinstance(training, PredictorTraining):
        return {
            f"phases.{index}.batch_size": phase.batch_size
            for index, phase in enumerate(training.phases)
        }
    return {"batch_size": training.batch_size}


def grad_accum_steps(training: Training, compute: Compute) -> int:
    """Gradient-accumulation steps of a stage."""
    return training.grad_accum_steps or compute.grad_accum_steps


def splits_into(training: Training, parts: int) -> bool:
    """Whether each batch of a stage has `parts` equal parts, and a textured image for each."""
    if any(size % parts for size in batch_sizes(training).values()):
        return False
    return not isinstance(training, TokenizerTraining) or training.textured >= parts


def worker_count(training: Training, compute: Compute, available: int) -> int:
    """Number of workers of a stage.

    It is the stage's own number. Without one it is the largest that its batches can be divided
    among, up to `compute.workers`, or up to `available` where that is `auto`.
    """
    if training.workers is not None:
        return training.workers
    most = available if compute.workers == "auto" else compute.workers
    parts = grad_accum_steps(training, compute)
    return next((n for n in range(most, 1, -1) if splits_into(training, n * parts)), 1)


def stage_compute(training: Training, compute: Compute) -> Compute:
    """`compute` with the gradient-accumulation steps of a stage."""
    return compute.model_copy(update={"grad_accum_steps": grad_accum_steps(training, compute)})
