"""Two workers with half the batch each are one worker with all of it; so are parts in turn.

In float64, where nothing but the order of sums can differ. The batch is dealt unevenly on purpose:
three of its four images keep their texture, and three are seen by the perceptual network.
"""

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing, nn

from tests.support.states import assert_close_states
from tests.support.training import (
    COMPUTE,
    MONITORING,
    batch_of,
    image_losses,
    predictor_task,
    rap_task,
    tokenizer_task,
)
from tvqrap.config.training import Monitoring
from tvqrap.objectives.image_losses.sync_batch_norm import SharedBatchNorm
from tvqrap.runtime.errors import UsageError, UserError
from tvqrap.training.distributed import ALONE, Workers, joined
from tvqrap.training.loop import train

pytestmark = pytest.mark.usefixtures("small_distance")

STEPS = 5
BATCH = 4
TOLERANCE = 1e-8
IMAGE = image_losses()
IMAGE["perceptual"] |= {"share": 0.75, "augment": True}
MATCHING = {
    **IMAGE,
    "adversarial": {**IMAGE["adversarial"], "discriminator": "unet", "matching": 2.0},
}
# K-means at step 2, revival after step 3, the GAN from step 1 on.
SETTINGS: dict[str, dict[str, Any]] = {
    "tokenizer": {"batch_size": BATCH, "texture_dropout": 0.25, "image": IMAGE},
    "predictor": {},
    "rap": {"batch_size": BATCH, "image": IMAGE},
    "decoder": {"batch_size": BATCH, "image": IMAGE, "train_decoder": True},
    "matching": {"batch_size": BATCH, "image": MATCHING},
}
MAKE = {
    "tokenizer": tokenizer_task,
    "predictor": predictor_task,
    "rap": rap_task,
    "decoder": rap_task,
    "matching": rap_task,
}


def run(
    kind: str,
    folder: Path,
    workers: Workers = ALONE,
    accumulate: int = 1,
    changes: dict[str, Any] | None = None,
) -> Any:
    """The state after `STEPS` steps, and the curves."""
    compute = COMPUTE.model_copy(update={"precision": "float64", "grad_accum_steps": accumulate})
    task = MAKE[kind](compute=compute, workers=workers, **{**SETTINGS[kind], **(changes or {})})

    def batches(step: int) -> Iterator[Any]:
        while True:
            yield batch_of(BATCH, step).dealt(workers.rank, workers.count)
            step += 1

    history = train(
        task,
        title=kind,
        steps=STEPS,
        batches=batches,  # type: ignore[arg-type]
        monitoring=Monitoring.model_validate({**MONITORING, "validate_every": STEPS}),
        folder=folder,
        workers=workers,
    )
    return {"state": task.state(), "steps": history.steps, "validation": history.validation}


def worker(rank: int, port: str, folder: str) -> None:
    os.environ.update(RANK=str(rank), WORLD_SIZE="2", LOCAL_RANK=str(rank))
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    torch.set_num_threads(1)
    with joined("cpu", 2) as workers:
        for kind in MAKE:
            found = run(kind, Path(folder) / kind, workers)
            torch.save(found, Path(folder) / f"{kind}-{rank}.pt")
        torch.save(norms(workers), Path(folder) / f"norms-{rank}.pt")
        torch.save(in_bfloat16(workers), Path(folder) / f"bfloat16-{rank}.pt")
        try:
            workers.check_equal("code", "aa" if rank == 0 else "bb")
        except UserError as error:
            (Path(folder) / f"error-{rank}").write_text(str(error))
        (Path(folder) / f"apart-{rank}").write_text(apart(workers, Path(folder) / "apart"))


def apart(workers: Workers, folder: Path) -> str:
    """The error of a training in which worker 1 has one other weight after step 2."""
    task = predictor_task(workers=workers)

    def batches(step: int) -> Iterator[Any]:
        while True:
            if step == 2 and not workers.is_main:
                weights = next(task.learner.module.parameters()).detach()
                weights[(0,) * weights.ndim] += 1e-6
            yield batch_of(2, step).dealt(workers.rank, workers.count)
            step += 1

    monitoring = Monitoring.model_validate({**MONITORING, "checkpoint_every": 2})
    try:
        train(
            task,
            title="apart",
            steps=STEPS,
            batches=batches,  # type: ignore[arg-type]
            monitoring=monitoring,
            folder=folder,
            workers=workers,
        )
    except UserError as error:
        return str(error)
    return "none"


def in_bfloat16(workers: Workers) -> dict[str, torch.Tensor]:
    """Terms of a step with the paper's discriminator."""
    compute = COMPUTE.model_copy(update={"precision": "bfloat16"})
    task = rap_task(compute=compute, workers=workers, **SETTINGS["rap"])
    return task.update(batch_of(BATCH, 1).dealt(workers.rank, workers.count), 1)


def norms(workers: Workers) -> Any:
    """A layer on uneven parts (three and two images of five): output, gradients, statistics."""
    torch.manual_seed(0)
    x = torch.randn(5, 3, 4, 4, dtype=torch.float64)[workers.rank :: workers.count]
    goal = torch.randn(5, 3, 4, 4, dtype=torch.float64)[workers.rank :: workers.count]
    layer = (nn.BatchNorm2d if workers.count == 1 else SharedBatchNorm)(3).double()
    x.requires_grad_()
    out = layer(x)
    (out * goal).sum().backward()
    gradients = [layer.weight.grad, layer.bias.grad]
    workers.all_reduce(gradients)  # type: ignore[arg-type]
    return [x.grad, out.detach(), *gradients, layer.running_mean, layer.running_var]


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory, small_distance: None) -> Path:
    """The folder in which two processes left what they found."""
    folder = tmp_path_factory.mktemp("two")
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port = str(server.getsockname()[1])
    context = multiprocessing.get_context("fork")
    processes = [
        context.Process(target=worker, args=(rank, port, str(folder))) for rank in range(2)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(300)
    assert [process.exitcode for process in processes] == [0, 0]
    return folder


@pytest.mark.parametrize("kind", MAKE)
def test_two_workers_equal_one(kind: str, two: Path, tmp_path: Path) -> None:
    alone = run(kind, tmp_path)
    first, second = (torch.load(two / f"{kind}-{rank}.pt") for rank in range(2))
    assert_close_states(first, second, 0)
    assert_close_states(first, alone, TOLERANCE)
    assert [row["step"] for row in first["steps"]] == [1, 2, 3, 4, 5]
    if kind != "predictor":
        assert first["steps"][-1]["adaptive_weight"] > 0
    assert first["steps"][-1]["perplexity"] > 1


@pytest.mark.parametrize("kind", MAKE)
def test_what_two_began_one_finishes(kind: str, two: Path, tmp_path: Path) -> None:
    shutil.copy(two / kind / "step-000000003.pt", tmp_path)
    found = run(kind, tmp_path)
    assert_close_states(found["state"], torch.load(two / f"{kind}-0.pt")["state"], TOLERANCE)


@pytest.mark.parametrize("kind", ["tokenizer", "rap"])
def test_a_batch_in_two_parts_is_the_batch(kind: str, tmp_path: Path) -> None:
    """But for the GAN, whose batch statistics are those of what is taken at once."""
    without = image_losses(adversarial=0.0)
    without["perceptual"]["share"] = 0.75
    changes = {"image": without}
    whole = run(kind, tmp_path / "whole", changes=changes)
    parts = run(kind, tmp_path / "parts", accumulate=2, changes=changes)
    assert_close_states(parts, whole, TOLERANCE)


def test_batch_statistics_are_those_of_all_parts(two: Path) -> None:
    whole = norms(ALONE)
    parts = [torch.load(two / f"norms-{rank}.pt") for rank in range(2)]
    for index, value in enumerate(whole[:2]):  # of each image: the parts, interleaved
        for rank, part in enumerate(parts):
            torch.testing.assert_close(part[index], value[rank::2], rtol=0, atol=1e-12)
    for found in parts:
        torch.testing.assert_close(found[2:], whole[2:], rtol=0, atol=1e-12)


def test_two_workers_in_bfloat16_are_near_to_one(two: Path) -> None:
    alone = in_bfloat16(ALONE)
    for rank in range(2):
        for name, value in torch.load(two / f"bfloat16-{rank}.pt").items():
            assert value.item() == pytest.approx(alone[name].item(), rel=0.05, abs=0.01), name


def test_workers_that_see_other_code_are_named(two: Path) -> None:
    for rank in range(2):
        assert (two / f"error-{rank}").read_text() == (
            "workers 1 of 2: not the code that worker 0 has; all must see one checkout"
        )


def test_workers_whose_weights_are_not_equal_are_named_with_the_step(two: Path) -> None:
    for rank in range(2):
        assert (two / f"apart-{rank}").read_text() == (
            "workers 1 of 2: not the weights after step 4 that worker 0 has; a device or the "
            "exchange is at fault (the checkpoint before stays)"
        )
    assert [path.name for path in (two / "apart").glob("step-*")] == ["step-000000002.pt"]


def test_as_many_workers_as_the_param_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    with (
        pytest.raises(UsageError, match="found 3 workers, expected 2"),
        joined("cpu", 2),
    ):
        pass
    monkeypatch.delenv("WORLD_SIZE")
    with joined("cpu", 1) as alone:
        assert (alone.is_main, alone.count, alone.all_reduce_max(15)) == (True, 1, 15)
