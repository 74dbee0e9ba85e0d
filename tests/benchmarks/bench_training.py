"""What a training step takes, and what feeding it adds.

    python -m tests.benchmarks.bench_training [--params stages/profiles/paper.yaml] [--repeats 7]

Prints ratios, which machines share where seconds differ:

- `fed / in memory`: a step of stage 2 whose batches the loader reads from token shards and decodes,
  over the same step on a batch in memory;
- `loader / step`: samples per second of the loader alone over what those steps consume;
- `with tokenizing / step` and `with degradation / step`: what encoding HR images in the step, and
  making LR images in it, would cost instead of reading tokens; beside what arithmetic says;
- `of the measured rate`, for each stage: operations of a step (tvqrap.cost.flops) over its
  time, as a share of the rate of a large matrix product on the same machine, measured in between.

Networks have random weights and are those of the params, crops are cut from the photographs. What
is compared is timed in turns, and medians are printed. On a CPU the times are of the process's own
CPU clock with one thread, so that what else runs on the machine counts little; the loader's thread
is part of them. With --device cuda they are seconds, and the peak of GPU memory is printed too.
"""

import argparse
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from pipeline.loading.dataset import MemberSelection, ShardedDataset
from pipeline.loading.loader import Loader
from pipeline.pairs.degradation import degrade
from pipeline.rng import random_stream
from pipeline.shards.codec import encode_array, encode_png
from pipeline.shards.manifest import Manifest, shard_name
from pipeline.shards.tar import Sample, write_shard
from stages.params import Params, load_params
from tvqrap.config.training import Compute, ImageLosses
from tvqrap.cost.flops import (
    StepCost,
    predictor_step,
    rap_step,
    tokenizer_step,
    tokenizing_operations,
)
from tvqrap.images.reading.folder import scan_folder
from tvqrap.images.reading.open import read_image
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.objectives.predictor import PredictorTask
from tvqrap.objectives.rap import RapTask
from tvqrap.objectives.tokenizer import TokenizerTask
from tvqrap.runtime.device import on_device
from tvqrap.training.batch import Batch, as_image
from tvqrap.training.distributed import ALONE, Workers

SHARDS, PER_SHARD = 8, 32
MATRIX = 1024


def crops(photos: Path, side: int, count: int, chosen: slice = slice(0, 8)) -> list[np.ndarray]:
    """HR crops, uint8 (side, side, 3), cut at random from reduced photographs."""
    generator = np.random.default_rng(0)
    images = []
    for path in scan_folder(photos).images[chosen]:
        image = read_image(path)
        image.thumbnail((4 * side, 4 * side))
        scale = side / min(image.size)
        if scale > 1:
            image = image.resize((round(image.width * scale) + 1, round(image.height * scale) + 1))
        images.append(np.asarray(image))
    found = []
    for index in range(count):
        pixels = images[index % len(images)]
        y, x = (int(generator.integers(length - side + 1)) for length in pixels.shape[:2])
        found.append(pixels[y : y + side, x : x + side])
    return found


def write_tokens(
    folder: Path, params: Params, side: int
) -> tuple[ShardedDataset, list[np.ndarray]]:
    """A set of tokens (random ones) and LR images, and the HR crops they are of."""
    architecture, generator = params.architecture, np.random.default_rng(1)
    found = crops(Path(params.data.photos), side, SHARDS * PER_SHARD)
    rows = []
    for shard in range(SHARDS):
        samples = []
        for place in range(PER_SHARD):
            number = shard * PER_SHARD + place
            lr = Image.fromarray(found[number]).reduce(4)
            codes = generator.integers(
                architecture.codebook, size=(side // architecture.texture,) * 2
            )
            members = {
                "lr0.png": encode_png(np.asarray(lr)),
                "hr.png": encode_png(found[number]),
                "codes.npy": encode_array(codes.astype(np.uint16)),
            }
            if architecture.structure is not None:
                small = (architecture.structure_channels, *(side // architecture.structure,) * 2)
                structure = generator.standard_normal(small).astype(np.float16)
                members["structure.npy"] = encode_array(structure)
            samples.append(Sample(f"photo_{number:05d}", members))
        rows.append(write_shard(folder / shard_name(shard), samples))
    settings = {"settings": {"variants": 1}}
    about = {"architecture": architecture.to_dict()}
    Manifest("tokens", "train", settings, tuple(rows), extra=about).save(folder)
    return ShardedDataset.open(folder), found


class Clock:
    """Times what is done, in turns."""

    def __init__(self, device: torch.device, repeats: int) -> None:
        self.device, self.repeats = device, repeats

    def now(self) -> float:
        if self.device.type == "cuda":
            torch.cuda.synchronize()
            return time.perf_counter()
        return time.process_time()

    def medians(self, *works: Callable[[], object]) -> list[float]:
        """Median seconds of each, all done once before and then in turns."""
        times: list[list[float]] = [[] for _ in works]
        for turn in range(self.repeats + 1):
            for work, taken in zip(works, times, strict=True):
                start = self.now()
                work()
                if turn:
                    taken.append(self.now() - start)
        return [median(taken) for taken in times]


def matrix_product(
    device: torch.device, dtype: torch.dtype = torch.float32
) -> tuple[Callable[[], object], float]:
    """A large matrix product and its operations."""
    side = MATRIX if device.type == "cpu" else 8 * MATRIX
    left, right = torch.randn(2, side, side, device=device, dtype=dtype).unbind()
    return lambda: left @ right, 2.0 * side**3


@dataclass(frozen=True)
class Stage:
    """A stage's step on one batch in memory."""

    number: int
    side: int
    batch: int
    update: Callable[[], Mapping[str, Tensor]]
    cost: StepCost
    state: Callable[[], object]
    """Everything that the next update depends on."""


def batch_of(params: Params, side: int, count: int) -> Batch:
    """Crops with LR images and random tokens, in memory."""
    architecture = params.architecture
    pixels = np.stack(crops(Path(params.data.photos), side, count))
    structure = None
    if architecture.structure is not None:
        small = (side // architecture.structure,) * 2
        structure = torch.randn(count, architecture.structure_channels, *small)
    return Batch(
        keys=tuple(f"photo_{index:05d}" for index in range(count)),
        hr=torch.from_numpy(pixels),
        lr=torch.from_numpy(np.ascontiguousarray(pixels[:, ::4, ::4])),
        codes=torch.randint(architecture.codebook, (count, *(side // architecture.texture,) * 2)),
        structure=structure,
    )


def stages(
    params: Params, compute: Compute, numbers: Sequence[int], workers: Workers = ALONE
) -> Iterator[Stage]:
    """The stages of these numbers, each made when it is its turn. GAN terms are on where they have
    a weight, and the texture is quantized.
    """
    architecture, recompute = params.architecture, compute.activation_checkpointing
    sides = {name: chosen.size for name, chosen in params.pairs.sets.items()}
    first, second, third = params.tokenizer, params.predictor.phases[0], params.rap
    if 1 in numbers:
        side = sides[first.set]
        batch = batch_of(params, side, first.batch_size)
        tokenizer = TokenizerTask(
            Tokenizer(architecture),
            first,
            compute,
            seed=0,
            vq_warmup_steps=0,
            validation=[batch],
            workers=workers,
        )
        own = batch.dealt(workers.rank, workers.count)
        update = partial(tokenizer.update, own, first.image.adversarial.start)
        cost = tokenizer_step(architecture, first, side, recompute)
        yield Stage(1, side, first.batch_size, update, cost, tokenizer.state)
    if 2 in numbers:
        side = sides[second.first_set]
        batch = batch_of(params, side, second.batch_size)
        predictor = predictor_task(params, compute, [batch], workers)
        own = batch.dealt(workers.rank, workers.count)
        cost = predictor_step(architecture, params.predictor, second.batch_size, side, recompute)
        update = partial(predictor.update, own, 0)
        yield Stage(2, side, second.batch_size, update, cost, predictor.state)
    if 3 in numbers:
        side = sides[third.set]
        batch = batch_of(params, side, third.batch_size)
        network = UpscalerNetwork(architecture)
        rap = RapTask(network, third, compute, validation=[batch], workers=workers)
        own = batch.dealt(workers.rank, workers.count)
        update = partial(rap.update, own, third.image.adversarial.start)
        cost = rap_step(architecture, third, side, recompute)
        yield Stage(3, side, third.batch_size, update, cost, rap.state)


def predictor_task(
    params: Params, compute: Compute, seen: list[Batch], workers: Workers = ALONE
) -> PredictorTask:
    return PredictorTask(
        UpscalerNetwork(params.architecture),
        params.predictor,
        compute,
        validation=seen,
        others=seen,
        code_entropy=0.0,
        workers=workers,
    )


@dataclass(frozen=True)
class Feeding:
    """Seconds of a step of stage 2, and of what feeds it."""

    step: float
    """On a batch in memory."""
    fed: float
    """On a batch from the loader."""
    tokenizing: float
    degrading: float
    loading: float
    """Of the loader alone, for a batch."""


def feeding(params: Params, compute: Compute, clock: Clock, folder: Path) -> Feeding:
    """Measures what feeding a step of stage 2 adds to it."""
    architecture, device = params.architecture, torch.device(compute.device)
    phase = params.predictor.phases[0]
    chosen = params.pairs.sets[phase.first_set]
    source, found = write_tokens(folder, params, chosen.size)
    loader = Loader(
        source,
        MemberSelection(lr=True, tokens=True),
        seed=0,
        batch_size=phase.batch_size,
        pinned=device.type == "cuda",
    )
    task = predictor_task(params, compute, [])
    tokenizer = on_device(Tokenizer(architecture).eval(), device)
    hr = torch.from_numpy(np.stack(found[: phase.batch_size]))
    degradation = params.pairs.degradations[next(iter(chosen.presets))]

    def degrade_batch() -> None:
        for index, crop in enumerate(found[: phase.batch_size]):
            degrade(crop, degradation, random_stream("bench", index))

    with closing(loader.batches(0)) as batches:
        held = next(batches)
        step, fed, tokenizing, degrading = clock.medians(
            lambda: task.update(held, 0),
            lambda: task.update(next(batches), 0),
            lambda: tokenizer.tokenize(as_image(hr, device)),
            degrade_batch,
        )
    count = 4 * SHARDS * PER_SHARD // phase.batch_size
    with closing(loader.batches(0)) as batches:
        next(batches)
        start = clock.now()
        for _ in range(count):
            next(batches)
        loading = (clock.now() - start) / count
    return Feeding(step, fed, tokenizing, degrading, loading)


def print_feeding(params: Params, found: Feeding) -> None:
    """Prints the ratios of a measurement."""
    architecture, phase = params.architecture, params.predictor.phases[0]
    side, step = params.pairs.sets[phase.set].size, found.step
    tokenizing, degrading = found.tokenizing, found.tokenizing + found.degrading
    cost = predictor_step(architecture, params.predictor, phase.batch_size, side)
    operations = cost.operations["network"]
    encoding = phase.batch_size * tokenizing_operations(architecture, side)
    print(f"feeding stage 2, {side}x{side}, batch {phase.batch_size}, step {step:.3f} s")
    print(f"  fed / in memory           {found.fed / step:.3f}")
    print(f"  loader / step             {step / found.loading:.0f}")
    print(
        f"  with tokenizing / step    {(step + tokenizing) / step:.2f} "
        f"(arithmetic: {1 + encoding / operations:.2f})"
    )
    print(f"  with degradation too      {(step + degrading) / step:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, default=Path("params.yaml"))
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--batch", type=int, help="in place of the params' batches")
    parser.add_argument("--stages", type=int, nargs="*", default=[1, 2, 3], choices=(1, 2, 3))
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="float32")
    parser.add_argument("--accumulate", type=int, default=1)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--plain", action="store_true", help="without perceptual networks")
    options = parser.parse_args()
    params = load_params(options.params)
    if options.plain:
        params = without_perceptual(params)
    if options.batch:
        params = with_batch(params, options.batch)
    device = torch.device(options.device)
    compute = params.compute.model_copy(
        update={
            "device": options.device,
            "precision": options.precision,
            "threads": 1 if options.device == "cpu" else params.compute.threads,
            "workers": 1,
            "grad_accum_steps": options.accumulate,
            "compile": options.compile,
        }
    )
    torch.manual_seed(0)
    torch.set_num_threads(compute.threads)
    clock = Clock(device, options.repeats)
    product, product_operations = matrix_product(device)
    print(f"{options.params}, width {params.width}, {options.device}, {options.precision}")
    with tempfile.TemporaryDirectory() as folder:
        print_feeding(params, feeding(params, compute, clock, Path(folder)))
    for stage in stages(params, compute, options.stages):
        if device.type == "cuda":
            torch.cuda.reset_peak_memory_stats()
        taken, reference = clock.medians(stage.update, product)
        operations = sum(stage.cost.operations.values())
        rate = product_operations / reference
        print(
            f"stage {stage.number}, {stage.side}x{stage.side}, batch {stage.batch}: {taken:.3f} s, "
            f"{stage.batch / taken:.2f} samples per second, {operations / 1e9:.0f} GFLOP, "
            f"{operations / taken / rate:.0%} of the measured rate of {rate / 1e9:.0f} GFLOP/s"
        )
        if device.type == "cuda":
            print(f"  peak of GPU memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")


def with_batch(params: Params, batch: int) -> Params:
    """The params with one batch for all stages."""
    phases = tuple(
        phase.model_copy(update={"batch_size": batch}) for phase in params.predictor.phases
    )
    changes = {
        "tokenizer": params.tokenizer.model_copy(update={"batch_size": batch}),
        "predictor": params.predictor.model_copy(update={"phases": phases}),
        "rap": params.rap.model_copy(update={"batch_size": batch}),
    }
    return params.model_copy(update=changes)


def without_perceptual(params: Params) -> Params:
    """The params with no perceptual loss, for machines without its weights."""
    return with_perceptual(params, weight=0.0)


def with_perceptual(params: Params, **changes: object) -> Params:
    """The params with changes of the perceptual losses."""

    def changed(losses: ImageLosses) -> ImageLosses:
        perceptual = losses.perceptual.model_copy(update=changes)
        return losses.model_copy(update={"perceptual": perceptual})

    tokenizer = params.tokenizer.model_copy(update={"image": changed(params.tokenizer.image)})
    rap = params.rap.model_copy(update={"image": changed(params.rap.image)})
    return params.model_copy(update={"tokenizer": tokenizer, "rap": rap})


if __name__ == "__main__":
    main()
