"""Measures the cost of upscaling: time, arithmetic, parameters and memory.

The networks take turns, so that other load on the machine affects all of them alike. Times are
medians over the rounds. On a CPU, processor time is measured too, which depends less on other load.
Memory is that of a separate process on a CPU, and that of torch's allocator on a GPU.
"""

import functools
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection

import torch
from torch.utils.flop_counter import FlopCounterMode

from tvqrap.cost.networks import build
from tvqrap.cost.peak_memory import PeakUnknownError, begin_peak, peak_bytes
from tvqrap.runtime.errors import UserError

MATRIX = 1536
"""Side of the square matrices whose product measures the machine's speed."""
CHANNELS, MAP = 128, 96
"""Channels and side of the map whose 3x3 convolution measures it too."""
_MEMORY_SECONDS = 3600.0


@dataclass(frozen=True)
class Cost:
    """The cost of one network on one size of LR images."""

    model: str
    side: int
    """Side of the square LR image, in pixels."""
    milliseconds: float
    """Median of the rounds, for one image."""
    processor_milliseconds: float | None
    """Median processor time of all threads together; None on a GPU."""
    parameters: int
    operations: int
    """Two for each multiply-add, in convolutions, matrix products and attention."""
    peak_bytes: int | None
    """Peak memory: on a CPU the weights and the growth of a separate process, on a GPU the peak of
    torch's allocator. None where the system does not report it."""
    share: float
    """Achieved rate over the machine's rate in large float32 products, see `operations_per_second`;
    on a CPU both are rates per second of processor time."""


@dataclass(frozen=True)
class Measured:
    """All costs of a run."""

    operations_per_second: float
    """Rate of the machine in a product of matrices or in a 3x3 convolution, whichever is faster, in
    the fastest round; on a CPU that of one core, by processor time."""
    costs: tuple[Cost, ...]
    notes: tuple[str, ...] = ()
    """Reasons why a number is not known."""


def measure(
    models: Sequence[str],
    sides: Sequence[int],
    *,
    rounds: int,
    device: str = "cpu",
    advance: Callable[[int, str], None] = lambda count, note: None,
) -> Measured:
    """Measures the networks that `tvqrap.cost.networks.build` knows, one size after another.

    Each network's first run is not timed; its operations are counted. `advance` is called after
    each run and each measurement of memory: `len(models) * len(sides) * (rounds + 2)` times. Raises
    UserError for an unknown network.
    """
    built = {name: build(name, device) for name in models}
    fastest = 0.0
    costs = []
    notes: dict[str, None] = {}
    for side in sides:
        lr = torch.rand(1, 3, side, side, generator=torch.Generator().manual_seed(0))
        operations = {}
        spent: dict[str, list[Spent]] = {name: [] for name in models}
        for name, timed in built.items():
            with FlopCounterMode(display=False) as counter, torch.inference_mode():
                timed.run(lr)
            operations[name] = counter.get_total_flops()
            advance(1, f"{name} {side}")
        for _ in range(rounds):
            fastest = max(fastest, _matrix_rate(device), _convolution_rate(device))
            for name, timed in built.items():
                spent[name].append(_spent(functools.partial(timed.run, lr), device))
                advance(1, f"{name} {side}")
        for name, timed in built.items():
            wall = statistics.median(entry.wall for entry in spent[name])
            processor = statistics.median(entry.processor for entry in spent[name])
            counted = processor if device == "cpu" else wall
            peak = measure_peak(name, side, device)
            if isinstance(peak, str):
                notes[f"peak memory is not known: {peak}"] = None
            costs.append(
                Cost(
                    name,
                    side,
                    1e3 * wall,
                    1e3 * processor if device == "cpu" else None,
                    sum(p.numel() for p in timed.network.parameters()),
                    operations[name],
                    None if isinstance(peak, str) else peak,
                    operations[name] / counted / fastest,
                )
            )
            advance(1, f"{name} {side}, memory")
    return Measured(fastest, tuple(costs), tuple(notes))


@dataclass(frozen=True)
class Spent:
    """Seconds of one run."""

    wall: float
    processor: float


@torch.inference_mode()
def _spent(run: Callable[[], object], device: str) -> Spent:
    wall, processor = time.perf_counter(), time.process_time()
    run()
    _finish(device)
    return Spent(time.perf_counter() - wall, time.process_time() - processor)


def _finish(device: str) -> None:
    if device != "cpu":
        getattr(torch, torch.device(device).type).synchronize()


def _matrix_rate(device: str) -> float:
    """Operations per second of a product of square matrices."""
    a, b = torch.rand(2, MATRIX, MATRIX, device=device)
    return _rate(2 * MATRIX**3, lambda: a @ b, device)


def _convolution_rate(device: str) -> float:
    """Operations per second of a 3x3 convolution.

    Another library computes it: on AMD CPUs it is more than twice as fast as MKL's product.
    """
    image = torch.rand(1, CHANNELS, MAP, MAP, device=device)
    kernel = torch.rand(CHANNELS, CHANNELS, 3, 3, device=device)
    image, kernel = (each.to(memory_format=torch.channels_last) for each in (image, kernel))
    operations = 2 * 9 * CHANNELS**2 * (MAP - 2) ** 2
    return _rate(operations, lambda: torch.conv2d(image, kernel), device)


def _rate(operations: int, run: Callable[[], object], device: str) -> float:
    _spent(run, device)
    spent = _spent(run, device)
    return operations / (spent.processor if device == "cpu" else spent.wall)


def measure_peak(name: str, side: int, device: str) -> int | str:
    """Peak memory of one upscaling, in a fresh process, or the reason why it is not known.

    Raises UserError where that process dies.
    """
    # Spawned, because a fork would begin with this process's memory.
    context = multiprocessing.get_context("spawn")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=report_peak, args=(name, side, device, sender), daemon=True)
    process.start()
    sender.close()
    try:
        if not receiver.poll(_MEMORY_SECONDS):
            raise UserError(f"{name}: no answer on {side}x{side} after {_MEMORY_SECONDS:.0f} s")
        peak: int | str = receiver.recv()
    except EOFError:
        process.join()
        raise UserError(
            f"{name}: died on {side}x{side} (exit code {process.exitcode}), out of memory perhaps"
        ) from None
    process.join()
    return peak


def report_peak(name: str, side: int, device: str, pipe: Connection) -> None:
    """Sends the peak memory of one upscaling, or the reason why it is not known, through `pipe`."""
    timed = build(name, device)
    tensors = (*timed.network.parameters(), *timed.network.buffers())
    weights = sum(tensor.nbytes for tensor in tensors)
    lr = torch.rand(1, 3, side, side)
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        with torch.inference_mode():
            timed.run(lr)
        pipe.send(torch.cuda.max_memory_allocated())
        return
    try:
        # Memory of libraries that were imported before is not counted.
        before = begin_peak()
        with torch.inference_mode():
            timed.run(lr)
        pipe.send(weights + max(0, peak_bytes() - before))
    except PeakUnknownError as error:
        pipe.send(str(error))
