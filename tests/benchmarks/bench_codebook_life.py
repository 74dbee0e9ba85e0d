"""What keeps a codebook in use: its start, the weights of its losses, and the quantizer's gradient.

    python -m tests.benchmarks.bench_codebook_life [--starts random kmeans] [--steps 300]

Trains the tokenizer of the params (the profile smoke, with --codebook entries) on crops of the
photographs, once for each start, weights, quantizer and seed, without perceptual and GAN terms and
else alike. Prints, of crops of other photographs: share of the codebook in use, perplexity and PSNR
by the averaged weights; of the last tenth of the steps, the entries that no texture chose; seconds.

Starts: entries uniform in +-1/codebook (random), the same with revival of unused entries (revival),
k-means after steps without quantization (kmeans), and both. Weights: of the loss that moves the
entries and of the one that moves the encoder. Quantizers: straight-through; the rotation trick
(Fifty et al., 2024), whose gradient is rotated and scaled as the entry is to the texture; SimVQ
(Zhu et al., 2024), which trains a linear layer over frozen random entries.
"""

import argparse
import time
from collections.abc import Iterable
from itertools import product
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.parametrize import register_parametrization

from stages.params import Params, load_params
from tests.benchmarks.bench_training import crops, without_perceptual
from tvqrap.config.training import CodebookLife, TokenizerTraining
from tvqrap.networks.codebook import Codebook, Quantized
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.objectives.tokenizer import TokenizerTask
from tvqrap.training.batch import Batch
from tvqrap.training.validation import psnr

CROPS, HELD_OUT = 480, 32
STARTS = {"random": (False, False), "revival": (False, True), "kmeans": (True, False)}
STARTS["both"] = (True, True)
WEIGHTS = {"eq7": (1.0, 1.0), "vqvae": (1.0, 0.25), "authors": (0.25, 1.0)}


class RotationTrick(Codebook):
    """A codebook whose gradient to the texture is rotated and scaled (Fifty et al., 2024)."""

    def quantize(self, z: Tensor) -> Quantized:
        """Replaces each vector z by |e|/|z| R z, with R, held constant, turning z towards e."""
        quantized = super().quantize(z)
        entries = self.lookup(quantized.codes).detach()
        from_, to = F.normalize(z.detach(), dim=1), F.normalize(entries, dim=1)
        half = F.normalize(from_ + to, dim=1)
        turned = z - 2 * half * (half * z).sum(1, keepdim=True)
        turned = turned + 2 * to * (from_ * z).sum(1, keepdim=True)
        scale = entries.norm(dim=1, keepdim=True) / z.detach().norm(dim=1, keepdim=True)
        return quantized._replace(values=turned * scale)


def tokenizer_with(quantizer: str, params: Params) -> Tokenizer:
    """A tokenizer with random weights and one of the quantizers."""
    tokenizer = Tokenizer(params.architecture)
    embedding = tokenizer.codebook.embedding
    if quantizer == "rotation":
        tokenizer.codebook = RotationTrick(*embedding.weight.shape)
        tokenizer.codebook.embedding = embedding
    if quantizer == "simvq":
        channels = embedding.embedding_dim
        nn.init.normal_(embedding.weight, std=channels**-0.5)
        embedding.weight.requires_grad_(False)
        register_parametrization(embedding, "weight", nn.Linear(channels, channels, bias=False))
    return tokenizer


def train(
    params: Params,
    settings: TokenizerTraining,
    quantizer: str,
    seed: int,
    seen: np.ndarray,
    held: np.ndarray,
) -> dict[str, float]:
    """Trains a tokenizer; returns its scores on the crops `held`, and its dead codes."""
    torch.manual_seed(seed)
    task = TokenizerTask(
        tokenizer_with(quantizer, params),
        settings,
        params.compute.model_copy(update={"device": "cpu", "threads": 1}),
        seed=seed,
        vq_warmup_steps=settings.codebook_life.vq_warmup_steps,
        validation=[Batch(("held",) * HELD_OUT, hr=torch.from_numpy(held))],
    )
    task.scores = _psnr  # a perceptual distance takes longer than many steps
    order = np.random.default_rng(seed)
    for step in range(settings.steps):
        hr = torch.from_numpy(seen[order.integers(len(seen), size=settings.batch_size)])
        task.update(Batch(("seen",) * settings.batch_size, hr=hr), step)
        if step == settings.steps * 9 // 10:
            task.health()
    return {"dead": task.health()[0]["dead_codes"], **task.validate().scores}


def _psnr(pairs: Iterable[tuple[Tensor, Tensor]]) -> dict[str, float]:
    return {"psnr": torch.cat([psnr(*pair) for pair in pairs]).mean().item()}


def settings_of(
    base: TokenizerTraining, start: str, weights: str, options: argparse.Namespace
) -> TokenizerTraining:
    """Settings of one training, without the GAN term."""
    kmeans, revival = STARTS[start]
    codebook, commitment = WEIGHTS[weights]
    adversarial = base.image.adversarial.model_copy(update={"weight": 0.0})
    return base.model_copy(
        update={
            "steps": options.steps,
            "batch_size": options.batch,
            "codebook_life": CodebookLife(
                vq_warmup_steps=options.warmup if kmeans else 0,
                revive_every=options.revive_every if revival else 0,
            ),
            "loss_weights": base.loss_weights.model_copy(
                update={"codebook": codebook, "commitment": commitment}
            ),
            "commitment_on": "encoder",
            "image": base.image.model_copy(update={"adversarial": adversarial}),
        }
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, default=Path("stages/profiles/smoke.yaml"))
    parser.add_argument("--codebook", type=int, default=256)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--warmup", type=int, default=60, help="steps before k-means")
    parser.add_argument("--revive-every", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    parser.add_argument("--starts", nargs="+", choices=STARTS, default=list(STARTS))
    parser.add_argument("--weights", nargs="+", choices=WEIGHTS, default=["vqvae"])
    parser.add_argument(
        "--quantizers",
        nargs="+",
        choices=("straight", "rotation", "simvq"),
        default=["straight"],
        help="simvq has the start random alone",
    )
    options = parser.parse_args()
    params = without_perceptual(load_params(options.params))
    params = params.model_copy(update={"codebook": options.codebook})
    side = params.pairs.sets[params.tokenizer.set].size
    photos = Path(params.data.photos)
    held = np.stack(crops(photos, side, HELD_OUT, slice(8, None)))
    seen = np.stack(crops(photos, side, CROPS))
    print("| start | weights | quantizer | seed | in use | perplexity | dead | PSNR | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for quantizer, start, weights, seed in product(
        options.quantizers, options.starts, options.weights, options.seeds
    ):
        if quantizer == "simvq" and start != "random":
            continue  # its entries are computed: nothing can set them
        settings = settings_of(params.tokenizer, start, weights, options)
        began = time.process_time()
        found = train(params, settings, quantizer, seed, seen, held)
        print(
            f"| {start} | {weights} | {quantizer} | {seed} | {found['codes_used']:.0%} | "
            f"{found['perplexity']:.0f} | {found['dead']:.0f} | {found['psnr']:.2f} | "
            f"{time.process_time() - began:.0f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
