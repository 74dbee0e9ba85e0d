"""Runs the workers of a training stage on a Ray cluster, by Ray Train.

The driver holds the stage's lock and its scratch folder. All nodes see the checkout at the same
path. After a failure of the cluster the next run resumes from the last checkpoint.
"""

import importlib
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

from pipeline.executor.ray_cluster import ray_cluster
from stages.runner.stage import Stage, run_beside
from stages.runner.worker import as_worker, workers_of
from tvqrap.runtime.device import means_cuda
from tvqrap.runtime.errors import UserError


def train_on_ray(stage: Stage) -> None:
    """Runs a stage on its number of workers and waits for them.

    Raises the `UserError` of the first worker that raised one.
    """
    compute = stage.params.compute
    root = Path.cwd()
    with ray_cluster():
        from ray.train import RunConfig, ScalingConfig
        from ray.train.torch import TorchConfig, TorchTrainer
        from ray.train.v2.api.exceptions import TrainingFailedError

        cuda = means_cuda(compute.device)
        trainer = TorchTrainer(
            work,
            train_loop_config={"root": str(root), "name": stage.name},
            torch_config=TorchConfig(backend="cpu:gloo,cuda:nccl" if cuda else "gloo"),
            scaling_config=ScalingConfig(
                num_workers=workers_of(stage.name, stage.params),
                use_gpu=cuda,
                resources_per_worker={"CPU": compute.threads, **({"GPU": 1} if cuda else {})},
            ),
            run_config=RunConfig(
                storage_path=str((root / stage.scratch / "ray").resolve()),
                worker_runtime_env={"env_vars": {"PYTHONPATH": str(root)}},
            ),
        )
        try:
            trainer.fit()
        except TrainingFailedError as error:
            raise _cause(error) from None


def work(config: dict[str, Any]) -> None:
    """Runs one worker's part of a stage, in the checkout."""
    os.chdir(config["root"])
    if sys.path[0] != config["root"]:
        sys.path.insert(0, config["root"])
    module = importlib.import_module(f"stages.{config['name']}")
    run_beside(config["name"], partial(as_worker, getattr(module, config["name"])))


def _cause(error: Exception) -> Exception:
    """The first `UserError` among the causes of a failed training, else `error` itself."""
    failures = getattr(error, "worker_failures", {})
    for _, failure in sorted(failures.items()):
        inner = getattr(failure, "_base_exc", failure)
        if isinstance(inner, UserError):
            return inner
    return error
