"""What one device does with every stage: the measurements behind the table of `make test-gpu`.

All of it runs on a CPU too, where the slow tests run it with a tiny network. Peaks of memory and
waits for the device are then not known.
"""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch

from stages.params import Params
from tests.benchmarks.bench_exchange import two_workers
from tests.benchmarks.bench_training import (
    Clock,
    Stage,
    feeding,
    matrix_product,
    stages,
    with_perceptual,
)
from tvqrap.config.training import Compute
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.runtime.device import Precision, on_device
from tvqrap.runtime.hardware import device_name
from tvqrap.upscaling.upscaler import Upscaler

COLUMNS = (
    "",
    "s",
    "samples/s",
    "of the matrix rate",
    "peak GB",
    "planned GB",
    "first use s",
    "note",
)
UNKNOWN = "–"


@dataclass
class Table:
    """Rows of the report, by the column's name."""

    rows: list[dict[str, str]] = field(default_factory=list)

    def add(self, what: str, cells: dict[str, str]) -> None:
        """Adds a row of cells by column."""
        assert cells.keys() <= set(COLUMNS), cells
        self.rows.append({"": what, **cells})

    def markdown(self, device: str) -> str:
        """The rows as one Markdown table, and the device."""
        lines = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
        lines += [
            f"| {' | '.join(row.get(name, UNKNOWN) for name in COLUMNS)} |" for row in self.rows
        ]
        return "\n".join([*lines, "", f"{device_name(device)}, torch {torch.__version__}", ""])


@dataclass(frozen=True)
class Mode:
    """How a stage computes."""

    name: str
    precision: Precision = "float32"
    tf32: bool = False
    compile: bool = False
    activation_checkpointing: bool = False

    def compute(self, params: Params, device: str) -> Compute:
        """The params' settings in this mode, for one process."""
        return params.compute.model_copy(
            update={
                "device": device,
                "workers": 1,
                "precision": self.precision,
                "tf32": self.tf32,
                "compile": self.compile,
                "activation_checkpointing": self.activation_checkpointing,
            }
        )


PLAIN = (Mode("float32"), Mode("TF32", tf32=True), Mode("bfloat16", "bfloat16", tf32=True))
RECOMPUTED = Mode("TF32, activation checkpointing", tf32=True, activation_checkpointing=True)
COMPILED = (
    Mode("TF32, compiled", tf32=True, compile=True),
    Mode("bfloat16, compiled", "bfloat16", tf32=True, compile=True),
    Mode("float32, compiled", compile=True),
)
"""The slowest to start come last, as the time of the whole run is limited."""


def with_packaged_distance(params: Params) -> Params:
    """The params with a perceptual network of LPIPS' size whose weights need no download."""
    return with_perceptual(params, network="stlpips_vgg")


def measure_stage(table: Table, params: Params, device: str, number: int, mode: Mode) -> Stage:
    """Adds a row on a stage's step: time, share of the matrix rate, memory beside the plan's.

    Returns the stage, which has taken steps. Raises ValueError where a term was not finite.
    """
    torch.manual_seed(0)
    clock = Clock(torch.device(device), repeats=5)
    start = clock.now()
    with peak_of(device) as peak:
        (stage,) = stages(params, mode.compute(params, device), [number])
        stage.update()
        first_use = clock.now() - start
        (taken,) = clock.medians(stage.update)
    wrong = [name for name, term in stage.update().items() if not term.isfinite()]
    if wrong:
        raise ValueError(f"stage {number}, {mode.name}: not finite: {', '.join(wrong)}")
    dtype = torch.bfloat16 if mode.precision == "bfloat16" else torch.float32
    product, operations = matrix_product(torch.device(device), dtype)
    (reference,) = clock.medians(product)
    share = sum(stage.cost.operations.values()) / taken / (operations / reference)
    table.add(
        f"stage {number}, {stage.batch} crops of {stage.side}, {mode.name}",
        {
            "s": f"{taken:.3f}",
            "samples/s": f"{stage.batch / taken:.2f}",
            "of the matrix rate": f"{share:.0%}",
            "peak GB": _gigabytes(peak()),
            "planned GB": _gigabytes(stage.cost.state + stage.cost.kept),
            "first use s": f"{first_use:.1f}",
        },
    )
    return stage


def measure_upscaling(table: Table, params: Params, device: str, side: int) -> None:
    """Adds a row on `Upscaler` for one image, with its peak beside that of the bare network."""
    torch.manual_seed(0)
    clock = Clock(torch.device(device), repeats=5)
    lr = torch.rand(1, 3, side, side) * 2 - 1
    network = on_device(UpscalerNetwork(params.architecture).eval(), torch.device(device))
    upscaler = Upscaler(network, device=device)
    inputs = lr.to(device)
    with torch.inference_mode():
        network(inputs)
        with peak_of(device) as bare:
            network(inputs)
        with peak_of(device) as peak:
            (taken,) = clock.medians(lambda: upscaler(lr))
    table.add(
        f"upscaling {side}x{side}",
        {
            "s": f"{taken:.3f}",
            "samples/s": f"{1 / taken:.2f}",
            "peak GB": _gigabytes(peak()),
            "note": f"peak of the bare network {_gigabytes(bare())} GB",
        },
    )


def measure_loader(table: Table, params: Params, device: str, mode: Mode) -> float:
    """Adds a row on a step of stage 2 that the loader feeds; returns its time over that in memory.

    Tokens are random; images are cut from the photographs of the repository.
    """
    clock = Clock(torch.device(device), repeats=5)
    with tempfile.TemporaryDirectory() as folder:
        found = feeding(params, mode.compute(params, device), clock, Path(folder))
    batch = params.predictor.phases[0].batch_size
    ratio, alone = found.fed / found.step, batch / found.loading
    table.add(
        f"stage 2 from the loader, {mode.name}",
        {
            "s": f"{found.fed:.3f}",
            "samples/s": f"{batch / found.fed:.2f}",
            "note": f"{ratio:.2f} of a step in memory; the loader alone {alone:.0f} samples/s",
        },
    )
    return ratio


def measure_two_processes(table: Table, params: Params, device: str, mode: Mode) -> bool:
    """Adds a row on stage 2 in two processes on one device; returns whether they ended equal."""
    found = two_workers(params, mode.compute(params, device), stage=2, repeats=3)
    table.add(
        f"stage 2, two processes on one device (gloo), {mode.name}",
        {
            "s": f"{found.step:.3f}",
            "samples/s": f"{params.predictor.phases[0].batch_size / found.step:.2f}",
            "note": f"exchange {found.exchange / found.step:.0%} of a step; "
            f"states {'equal' if found.equal else 'differ'}",
        },
    )
    return found.equal


def waits_for_device(stage: Stage) -> str | None:
    """The first operation of a step that waits for its CUDA device, in PyTorch's words, or None."""
    torch.cuda.set_sync_debug_mode("error")
    try:
        stage.update()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    finally:
        torch.cuda.set_sync_debug_mode("default")
    return None


@contextmanager
def peak_of(device: str) -> Iterator[Callable[[], int | None]]:
    """Yields a function for the peak of the device's memory within the block; None on a CPU."""
    if not device.startswith("cuda"):
        yield lambda: None
        return
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    found: list[int] = []
    yield lambda: found[0]
    found.append(torch.cuda.max_memory_allocated())


def _gigabytes(size: int | None) -> str:
    return UNKNOWN if size is None else f"{size / 1e9:.2f}"
