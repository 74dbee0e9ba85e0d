"""Stage 1: the tokenizer learns to split HR into structure and texture codes and back.

Paper, section 3.2: reconstruction, perceptual, adversarial and codebook losses, an autoencoder of
the reduced image, and the alignment of the structure with that autoencoder's features.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tvqrap.config.training import Compute, TokenizerTraining
from tvqrap.networks.codebook import Quantized
from tvqrap.networks.tokenizer import Encoded, Tokenizer, join
from tvqrap.objectives.adversary import adversary_for, shared_adaptive_weight
from tvqrap.objectives.image_loss import ImageLoss, perceptual_for
from tvqrap.objectives.kmeans_init import KMEANS_BATCHES
from tvqrap.runtime.device import autocast, on_device, select_device, to_float32, weights_dtype
from tvqrap.runtime.errors import UserError
from tvqrap.training.batch import Batch, Microbatch, add_terms, as_image, interleave
from tvqrap.training.codebook_usage import CodeUsage, perplexity
from tvqrap.training.compile import compile_blocks
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.ema import WeightsAverage
from tvqrap.training.optimizer import adam, apply_gradients, set_learning_rate
from tvqrap.training.validation import ImageScores, Validation, picture

KMEANS_ITERATIONS = 12
KMEANS_VECTORS_PER_ENTRY = 64
ENTRIES = "codebook.embedding.weight"


def takes_teacher(step: int, share: float) -> bool:
    """Whether a step trains on the teacher's images: a `share` of the steps, evenly spread."""
    return math.floor((step + 1) * share) > math.floor(step * share)


class TokenizerTrainee:
    """The tokenizer, its average, its adversary and the life of its codebook."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: TokenizerTraining,
        compute: Compute,
        *,
        seed: int,
        vq_warmup_steps: int,
        validation: Sequence[Batch],
        workers: Workers = ALONE,
    ) -> None:
        """Takes the networks and settings of stage 1.

        The first `vq_warmup_steps` steps train without quantization. K-means on the texture of the
        last of them then sets the codebook. 0 keeps the codebook that the tokenizer has.
        """
        self.settings = settings
        self.compute = compute
        self.seed = seed
        self.workers = workers
        self.device = select_device(compute.device, "compute.device")
        self.dtype = weights_dtype(compute.precision)
        torch.set_num_threads(compute.threads)
        self.tokenizer = on_device(tokenizer, self.device, self.dtype).train()
        self.average = WeightsAverage(self.tokenizer, settings.optimiser.ema_decay)
        self.optimiser = adam(self.tokenizer.parameters(), settings.optimiser)
        if compute.compile:
            compile_blocks(self.tokenizer)
        perceptual = perceptual_for(settings.image.perceptual)
        if perceptual is not None:
            perceptual.to(self.device, self.dtype)
        self.image_loss = ImageLoss(settings.image, perceptual)
        self.adversary = adversary_for(
            settings.image.adversarial,
            settings.optimiser,
            compute,
            self.device,
            workers,
        )
        self.vq_warmup_steps = vq_warmup_steps
        self.validation = [as_image(batch.hr, self.device, self.dtype) for batch in validation]
        entries = tokenizer.architecture.codebook
        self.used = torch.zeros(entries, dtype=torch.int64, device=self.device)
        """How often each code was chosen since the last revival."""
        self.usage = CodeUsage(entries, self.device)
        self.texture_seen: list[Tensor] = []
        """Texture vectors (M, C) of the last whole batches before k-means."""
        self.quantizes = self.vq_warmup_steps == 0
        # Last: its making draws random numbers, and the discriminator's start is to stay as it is.
        self.scores = ImageScores(self.device, self.dtype)

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step on HR crops, this worker's samples of the step's batch."""
        settings = self.settings
        set_learning_rate(self.optimiser, settings.optimiser, step, settings.steps)
        taught = takes_teacher(step, settings.teacher)
        parts = [
            (part, as_image(samples.teacher if taught else samples.hr, self.device, self.dtype))
            for part, samples in batch.parts(self.compute.grad_accum_steps, self.workers.part)
        ]
        if step == self.vq_warmup_steps and self.vq_warmup_steps:
            self._start_codebook([self._encode(hr).texture.detach() for _, hr in parts])
        self.quantizes = step >= self.vq_warmup_steps
        terms: dict[str, Tensor] = {}
        textures, codes = [], []
        for part, hr in parts:
            encoded = self._encode(hr)
            quantized = None
            if self.quantizes:
                quantized = self.tokenizer.codebook.quantize(encoded.texture)
                codes.append(quantized.codes)
            textures.append(encoded.texture.detach())
            add_terms(terms, self._accumulate(hr, encoded, quantized, part, step))
        terms = self.workers.reduce_terms(terms)
        terms["gradient_norm"] = apply_gradients(
            self.optimiser, settings.optimiser.grad_clip_norm, self.workers
        )
        self.average.update(self.tokenizer)
        if self.adversary is not None and self.adversary.active(step):
            self.adversary.step()
        if self.quantizes:
            self._keep_alive(codes, textures, step)
        elif step > self.vq_warmup_steps - KMEANS_BATCHES:
            self.texture_seen.append(self._vectors(textures))
        return terms

    def _encode(self, hr: Tensor) -> Encoded:
        with autocast(self.device, self.compute.precision):
            encoded = self.tokenizer.encode(hr)
        return encoded._replace(texture=to_float32(encoded.texture))

    def _accumulate(
        self, hr: Tensor, encoded: Encoded, quantized: Quantized | None, part: Microbatch, step: int
    ) -> dict[str, Tensor]:
        """Adds a part's gradients to those of the parts before it; returns its terms."""
        settings = self.settings
        terms: dict[str, Tensor] = {}
        values = encoded.texture
        rest = values.new_zeros(())
        if quantized is not None:
            values = quantized.values
            rest = rest + self._codebook_loss(quantized, part, terms)
        whole = len(hr) * part.of
        textured = whole
        if encoded.decoded_structure is not None:
            textured -= round(settings.texture_dropout * whole)
            kept = part.leading(textured)
            values = torch.cat((values[:kept], torch.zeros_like(values[kept:])))
        with autocast(self.device, self.compute.precision):
            image = to_float32(self.tokenizer.decoder(join(encoded.decoded_structure, values)))
            if encoded.structure is not None:
                rest = rest + self._small_autoencoder_loss(hr, encoded.structure, part, terms)
        discriminator = None
        if self.adversary is not None and self.adversary.active(step):
            discriminator = self.adversary.discriminator
        gradient = self.image_loss.gradients(image, hr, discriminator, textured, part, step)
        terms = {**gradient.terms, **terms}
        at_image = gradient.reconstruction
        if gradient.adversarial is not None:
            last = self.tokenizer.decoder[-1].get_parameter("weight")
            ours, theirs = (
                torch.autograd.grad(image, last, each, retain_graph=True)[0]
                for each in (gradient.reconstruction, gradient.adversarial)
            )
            weight = shared_adaptive_weight(
                ours, theirs, self.workers, self.compute.grad_accum_steps
            )
            terms["adaptive_weight"] = weight / part.of
            at_image = at_image + settings.image.adversarial.weight * weight * gradient.adversarial
        if rest.requires_grad:
            torch.autograd.backward([image, rest], [at_image, torch.ones_like(rest)])
        else:
            image.backward(at_image)
        if discriminator is not None:
            assert self.adversary is not None
            kept = part.leading(textured)
            terms |= self.adversary.learn(hr[:kept], image[:kept], part.weight(textured))
        return terms

    def _start_codebook(self, textures: Sequence[Tensor]) -> None:
        """Puts the entries where k-means finds the texture seen, this step's included."""
        codebook = self.tokenizer.codebook
        generator = torch.Generator().manual_seed(self.seed)
        vectors = torch.cat([*self.texture_seen, self._vectors(textures)])
        self.texture_seen = []
        if len(vectors) < len(self.used):
            raise UserError(
                f"codebook is {len(self.used)}; allowed are at most {len(vectors)}, the "
                "texture vectors that k-means starts it from (tokenizer.batch, crop size)"
            )
        limit = KMEANS_VECTORS_PER_ENTRY * len(self.used)
        chosen = torch.randperm(len(vectors), generator=generator)[:limit]
        vectors = vectors[chosen.to(vectors.device)]
        codebook.kmeans_(vectors, KMEANS_ITERATIONS, generator)
        self.average.set_rows(
            ENTRIES, torch.ones_like(self.used, dtype=torch.bool), codebook.embedding.weight
        )

    def _vectors(self, textures: Sequence[Tensor]) -> Tensor:
        """Texture (n, C, h, w) of this worker's parts -> vectors (N h w, C) of the whole batch.

        Equal on all workers, and in the batch's order whatever it was divided into: what is made
        of them is the same everywhere.
        """
        rows = [texture.permute(0, 2, 3, 1).flatten(1, 2) for texture in textures]
        return self.workers.gather(interleave(rows)).flatten(0, 1)

    def _codebook_loss(
        self, quantized: Quantized, part: Microbatch, terms: dict[str, Tensor]
    ) -> Tensor:
        settings = self.settings
        on_entries, on_encoder = settings.loss_weights.codebook, settings.loss_weights.commitment
        if settings.commitment_on == "codebook":
            on_entries, on_encoder = on_encoder, on_entries
        terms["codebook"] = quantized.codebook_loss.detach() / part.of
        loss = on_entries * quantized.codebook_loss + on_encoder * quantized.commitment_loss
        return loss / part.of

    def _small_autoencoder_loss(
        self, hr: Tensor, structure: Tensor, part: Microbatch, terms: dict[str, Tensor]
    ) -> Tensor:
        settings = self.settings
        assert self.tokenizer.small_autoencoder is not None
        reduced = self.tokenizer.small_autoencoder(hr)
        small = F.mse_loss(to_float32(reduced.image), reduced.reduced) / part.of
        alignment = (
            F.mse_loss(to_float32(structure), to_float32(reduced.structure).detach()) / part.of
        )
        terms["small_autoencoder"], terms["alignment"] = small.detach(), alignment.detach()
        return (
            settings.loss_weights.small_autoencoder * small
            + settings.loss_weights.alignment * alignment
        )

    def _keep_alive(self, codes: Sequence[Tensor], textures: Sequence[Tensor], step: int) -> None:
        """Counts the codes in use and revives those unused since the last revival."""
        counts = torch.cat([each.flatten() for each in codes]).bincount(minlength=len(self.used))
        self.workers.all_reduce([counts])
        self.used += counts
        self.usage.add(counts)
        every = self.settings.codebook_life.revive_every
        if not every or (step + 1) % every or step + 1 == self.settings.steps:
            return
        dead = self.used == 0
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        entries = self.tokenizer.codebook.embedding.weight
        self.tokenizer.codebook.revive_(dead, self._vectors(textures), generator)
        self.average.set_rows(ENTRIES, dead, entries[dead])
        for name in ("exp_avg", "exp_avg_sq"):
            self.optimiser.state[entries][name][dead] = 0
        self.used.zero_()

    def health(self) -> tuple[dict[str, float], str | None]:
        """Codes in use since the last look, and advice where they are too few."""
        numbers, share = self.usage.look(), self.usage.collapse()
        if share is None:
            return numbers, None
        return numbers, (
            f"{share:.1%} of the codebook is in use: it is collapsing. Start it by k-means "
            "(tokenizer.codebook_life.vq_warmup_steps), revive dead entries (revive_every), or "
            "lower codebook or the learning rate"
        )

    @torch.no_grad()
    def validate(self) -> Validation:
        """Reconstruction of validation crops by the averaged weights, with codes in use.

        Until the texture is quantized it is decoded as it is, and no code is in use.
        """
        tokenizer = self.average.module
        counts = torch.zeros_like(self.used)
        pairs = []
        for hr in self.validation:
            with autocast(self.device, self.compute.precision):
                encoded = tokenizer.encode(hr)
                texture = to_float32(encoded.texture)
                if self.quantizes:
                    codes = tokenizer.codebook.nearest(texture)
                    counts += codes.flatten().bincount(minlength=len(counts))
                    texture = tokenizer.codebook.lookup(codes)
                image = tokenizer.decoder(join(encoded.decoded_structure, texture))
            pairs.append((to_float32(image), hr))
        scores = self.scores(pairs)
        if self.quantizes:
            scores["codes_used"] = (counts > 0).float().mean().item()
            scores["perplexity"] = perplexity(counts).item()
        return Validation(scores, picture(*pairs[0]))

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""
        return {
            "tokenizer": self.tokenizer.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": self.adversary.state() if self.adversary else None,
            "used": self.used,
            "usage": self.usage.state(),
            "texture_seen": self.texture_seen,
            "quantizes": self.quantizes,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Puts a state back."""
        self.tokenizer.load_state_dict(state["tokenizer"])
        self.average.load_state(state["average"])
        self.optimiser.load_state_dict(state["optimiser"])
        if self.adversary:
            self.adversary.load_state(state["adversary"])
        self.used = state["used"].to(self.device)
        self.usage.load_state(state["usage"])
        self.texture_seen = [vectors.to(self.device) for vectors in state["texture_seen"]]
        self.quantizes = state["quantizes"]
