"""What upscaling costs, and what tiles do to the answer.

    python -m tests.benchmarks.bench_upscaling speed
    python -m tests.benchmarks.bench_upscaling tiles PHOTO... --model models/rap --out DIR
    python -m tests.benchmarks.bench_upscaling memory --sizes 512 1024 2048 --model models/rap
    python -m tests.benchmarks.bench_upscaling colour PHOTO... --model models/rap
    python -m tests.benchmarks.bench_upscaling parts PHOTO... --model models/rap
    python -m tests.benchmarks.bench_upscaling together

`speed`: microseconds per LR pixel by side of the image, and how much of that the kernel takes to
map memory, with the C library's own settings and with those of the command line; `tvqrap-cli
benchmark` has the share of what the machine can do.
`tiles`: PSNR of photographs (reduced to 320 pixels a side) in tiles against the same upscaled
whole, with tiles normalised alike and each on its own. `memory`: peak of a process that upscales
a square to a PNG, beyond one of 64 pixels; with --plain, bicubic enlarging stands in for the
network, which leaves what grows with the photograph and takes minutes instead of hours. `colour`:
how far colours are off by the model, kept and matched. `parts`: what share of the time of files
is not the network's. `together`: seconds of
two commands one after the other and at once, with threads for the idle cores and with one thread
for each core. At once is to take about as long; run it with nothing else on the machine.
Without --model: random weights of the laptop's width, for which `tiles` and `colour` tell little.
"""

import argparse
import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
from PIL import Image
from torch.nn import functional as F

from tests.support.commands import run
from tests.support.networks import random_upscaler
from tvqrap.architecture import SCALE, Architecture
from tvqrap.images.reading.open import read_image
from tvqrap.images.tensors import to_tensor
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.pretrained.packaged import UPSCALER
from tvqrap.pretrained.upscaler import load_upscaler
from tvqrap.runtime.memory import keep_freed_memory
from tvqrap.upscaling.colours import match_colours
from tvqrap.upscaling.files import upscale_files
from tvqrap.upscaling.settings import OutputSettings
from tvqrap.upscaling.upscaler import Upscaler

LARGEST_WHOLE = 320
"""Larger photographs are reduced to this side where they are upscaled whole too."""


def network_of(model: Path | None, width: float) -> UpscalerNetwork:
    if model is not None:
        return load_upscaler(model)
    torch.manual_seed(0)
    return random_upscaler(Architecture(width=width, codebook=512, texture=4, structure=8))


def photo_of_side(side: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (side // 8, side // 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(noise).resize((side, side), Image.Resampling.BICUBIC))


def speed(network: UpscalerNetwork, sizes: list[int]) -> None:
    for kept in (False, True):
        if kept:
            keep_freed_memory()
        for side in sizes:
            upscaler = Upscaler(network, device="cpu", tile=max(sizes))
            lr = photo_of_side(side)
            upscaler(lr)
            before, start = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            times = max(1, 2**16 // side**2)
            for _ in range(times):
                upscaler(lr)
            wall = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_SELF)
            user, system = after.ru_utime - before.ru_utime, after.ru_stime - before.ru_stime
            wall, user, system = (s / times / side**2 * 1e6 for s in (wall, user, system))
            print(
                f"{side:5} {'freed memory kept' if kept else 'as the C library has it':24} "
                f"{wall:6.0f} us per LR pixel, of processors: {user:.0f} user, {system:.0f} system",
                flush=True,
            )


def psnr(one: np.ndarray, other: np.ndarray) -> float:
    return float(10 * np.log10(255**2 / np.square(one.astype(float) - other).mean()))


def tiles(network: UpscalerNetwork, photos: list[Path], sizes: list[int], out: Path | None) -> None:
    keep_freed_memory()
    for path in photos:
        photo = read_image(path)
        photo.thumbnail((LARGEST_WHOLE, LARGEST_WHOLE))
        lr = np.asarray(photo)
        whole = Upscaler(network, device="cpu", tile=-(-max(photo.size) // 64) * 64)(lr)
        pictures = {"whole": whole}
        for side in sizes:
            for how in ("alike", "own"):
                upscaler: Any = Upscaler(network, device="cpu", tile=side)
                if how == "own":
                    upscaler._network_for = lambda *_: network
                tiled = pictures[f"{side}-{how}"] = upscaler(lr)
                shift = (tiled.astype(np.float32) - whole).mean(2)
                coarse = np.asarray(Image.fromarray(shift).reduce(32))
                print(
                    f"{path.name}, tile {side}, normalised "
                    f"{'alike' if how == 'alike' else 'each on its own'}: {psnr(tiled, whole):.2f} "
                    f"dB to the whole, brightness of 32x32 pixels off by {np.std(coarse):.2f} "
                    "levels",
                    flush=True,
                )
        if out is not None:
            out.mkdir(parents=True, exist_ok=True)
            for name, picture in pictures.items():
                Image.fromarray(picture).save(out / f"{path.stem}-{name}.png")


class _Plain(torch.nn.Module):
    """In place of a network."""

    architecture = Architecture(texture=4, structure=8)

    def forward(self, lr: torch.Tensor) -> torch.Tensor:
        return F.interpolate(lr, scale_factor=SCALE, mode="bicubic")


def colour(network: UpscalerNetwork, photos: list[Path]) -> None:
    keep_freed_memory()
    for path in photos:
        with Image.open(path) as photo:
            lr = to_tensor(photo.convert("RGB").reduce(max(1, max(photo.size) // 128)))[None]
        kept = Upscaler(network, device="cpu")(lr)
        for how, sr in {"keep": kept, "match": match_colours(kept, lr).clamp(-1, 1)}.items():
            shift = 127.5 * (F.avg_pool2d(sr, SCALE) - lr)
            coarse = F.avg_pool2d(shift, 16).square().mean().sqrt()
            print(
                f"{path.name}, {how}: red, green, blue off by "
                f"{', '.join(f'{value:+.1f}' for value in shift.mean((0, 2, 3)))} levels over all, "
                f"by {coarse:.1f} in squares of 16 pixels",
                flush=True,
            )


def parts(network: UpscalerNetwork, photos: list[Path]) -> None:
    keep_freed_memory()
    upscaler = Upscaler(network, device="cpu")
    run, seconds = upscaler._run, 0.0

    def timed(*arguments: Any) -> torch.Tensor:
        nonlocal seconds
        begun = time.perf_counter()
        made = run(*arguments)
        seconds += time.perf_counter() - begun
        return made

    with tempfile.TemporaryDirectory() as folder, mock.patch.object(upscaler, "_run", timed):
        for form in ("png", "jpeg", "webp"):
            seconds, begun = 0.0, time.perf_counter()
            outcomes = upscale_files(photos, folder, upscaler, OutputSettings(format=form))
            assert {outcome.status for outcome in outcomes} == {"upscaled"}
            whole = time.perf_counter() - begun
            print(
                f"{form}, {torch.get_num_threads()} threads: {whole:.2f} s, of which "
                f"{1 - seconds / whole:.1%} not in the network",
                flush=True,
            )


def memory(model: Path | None, sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        base = None
        for side in (64, *sizes):
            photo, large = Path(folder, "photo.png"), Path(folder, "large.png")
            Image.fromarray(photo_of_side(side)).save(photo)
            command = [sys.executable, "-m", "tests.benchmarks.bench_upscaling", "one"]
            start = time.perf_counter()
            which = ["--plain"] if model is None else ["--model", str(model)]
            process = subprocess.Popen([*command, str(photo), str(large), *which])
            _, status, used = os.wait4(process.pid, 0)
            assert status == 0
            peak = used.ru_maxrss / 1e3
            base = peak if base is None else base
            print(
                f"{side}x{side}: peak {peak:.0f} MB, {peak - base:.0f} MB beyond 64x64, "
                f"{time.perf_counter() - start:.0f} s",
                flush=True,
            )
            large.unlink()


def _upscaling(photo: Path, output: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    words = ["upscale", str(photo), "-o", str(output), "--overwrite"]
    command = [sys.executable, "-m", "tvqrap", *words]
    return subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)


def together(sides: list[int]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        for side in sides:
            photo = Path(folder, f"{side}.png")
            Image.fromarray(photo_of_side(side)).save(photo)
            for threads in (None, len(os.sched_getaffinity(0))):
                environment = {k: v for k, v in os.environ.items() if k != "OMP_NUM_THREADS"}
                if threads is not None:
                    environment["OMP_NUM_THREADS"] = str(threads)

                outputs = [Path(folder, f"{number}.png") for number in range(2)]
                assert _upscaling(photo, outputs[0], environment).wait() == 0  # files are cached
                begun = time.perf_counter()
                for path in outputs:
                    assert _upscaling(photo, path, environment).wait() == 0
                after = time.perf_counter() - begun
                begun = time.perf_counter()
                for process in [_upscaling(photo, path, environment) for path in outputs]:
                    assert process.wait() == 0
                at_once = time.perf_counter() - begun
                print(
                    f"{side}x{side}, {threads or 'idle cores as'} threads: two one after the other "
                    f"{after:.1f} s, at once {at_once:.1f} s, {at_once / after:.2f} times as long",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    choices = ["speed", "tiles", "memory", "colour", "parts", "together", "one"]
    parser.add_argument("what", choices=choices)
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--model", type=Path)
    parser.add_argument("--width", type=float, default=0.25)
    parser.add_argument("--plain", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+")
    parser.add_argument("--out", type=Path, help="folder for the pictures of `tiles`")
    options = parser.parse_args()
    if options.what == "one":
        photo, large = options.files
        words = ["upscale", photo, "-o", large, "--model", options.model or UPSCALER]
        plain = mock.patch("tvqrap.pretrained.models.load_upscaler", lambda _: _Plain())
        with plain if options.plain else nullcontext():
            assert run(*words).exit_code == 0
        return
    if options.what == "together":
        together(options.sizes or [128])
        return
    network = network_of(options.model, options.width)
    if options.what == "speed":
        speed(network, options.sizes or [64, 128, 256, 512])
    elif options.what == "tiles":
        tiles(network, options.files, options.sizes or [128], options.out)
    elif options.what == "colour":
        colour(network, options.files)
    elif options.what == "parts":
        parts(network, options.files)
    elif options.plain:
        memory(None, options.sizes or [1024, 2048, 4096])
    elif options.model is not None:
        memory(options.model, options.sizes or [1024, 2048, 4096])
    else:
        with tempfile.TemporaryDirectory() as folder:
            save_model(Path(folder), "upscaler", network, network.architecture, {})
            memory(Path(folder), options.sizes or [512, 1024, 2048])


if __name__ == "__main__":
    main()
