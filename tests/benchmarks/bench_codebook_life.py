"""What k-means and the revival of dead entries do for a codebook.

    python -m tests.benchmarks.bench_codebook_life [--steps 300] [--seeds 1 2]

Trains the tokenizer of the params (the profile smoke, with --codebook entries) on crops of the
photographs with neither, with each and with both, without perceptual and GAN terms and else alike.
Prints, of crops of other photographs: share of the codebook in use, perplexity and PSNR by the
averaged weights; of the last tenth of the steps, the entries that no texture chose.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from stages.params import load_params
from tests.benchmarks.bench_training import crops, without_perceptual
from tvqrap.config.training import CodebookLife, Compute
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.objectives.tokenizer import TokenizerTask
from tvqrap.training.batch import Batch

CROPS, HELD_OUT = 480, 32


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--params", type=Path, default=Path("stages/profiles/smoke.yaml"))
    parser.add_argument("--codebook", type=int, default=256)
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--unquantized", type=int, default=60)
    parser.add_argument("--revive-every", type=int, default=30)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1])
    options = parser.parse_args()
    params = without_perceptual(load_params(options.params))
    params = params.model_copy(update={"codebook": options.codebook})
    without_gan = params.tokenizer.image.adversarial.model_copy(update={"weight": 0.0})
    image = params.tokenizer.image.model_copy(update={"adversarial": without_gan})
    side = params.pairs.sets[params.tokenizer.set].size
    photos = Path(params.data.photos)
    held = np.stack(crops(photos, side, HELD_OUT, slice(8, None)))
    seen = np.stack(crops(photos, side, CROPS))
    compute = Compute(
        device="cpu", precision="float32", threads=1, workers=1, grad_accum_steps=1, compile=False
    )
    print("| k-means | revival | seed | in use | perplexity | dead | PSNR |")
    print("|---|---|---|---|---|---|---|")
    for seed in options.seeds:
        for unquantized in (0, options.unquantized):
            for revive_every in (0, options.revive_every):
                life = CodebookLife(vq_warmup_steps=unquantized, revive_every=revive_every)
                settings = params.tokenizer.model_copy(
                    update={"steps": options.steps, "codebook_life": life, "image": image}
                )
                torch.manual_seed(seed)
                task = TokenizerTask(
                    Tokenizer(params.architecture),
                    settings,
                    compute,
                    seed=seed,
                    vq_warmup_steps=unquantized,
                    validation=[Batch(("held",) * HELD_OUT, hr=torch.from_numpy(held))],
                )
                order = np.random.default_rng(seed)
                for step in range(options.steps):
                    chosen = order.integers(len(seen), size=settings.batch_size)
                    hr = torch.from_numpy(seen[chosen])
                    task.update(Batch(("seen",) * settings.batch_size, hr=hr), step)
                    if step == options.steps * 9 // 10:
                        task.health()
                dead = task.health()[0]["dead_codes"]
                scores = task.validate().scores
                print(
                    f"| {unquantized or 'no'} | {revive_every or 'no'} | {seed} | "
                    f"{scores['codes_used']:.0%} | {scores['perplexity']:.0f} | {dead:.0f} | "
                    f"{scores['psnr']:.2f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
