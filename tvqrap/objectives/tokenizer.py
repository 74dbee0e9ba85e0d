"""Stage 1: the tokenizer learns to split HR into structure and texture codes and back.

Paper, section 3.1: reconstruction, perceptual, adversarial and codebook losses, an autoencoder of
the reduced image, and the alignment of the structure with that autoencoder's features.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tvqrap.config.training import Compute, TokenizerTraining
from tvqrap.networks.codebook import Quantized, count_codes
from tvqrap.networks.tokenizer import Encoded, Tokenizer, join
from tvqrap.objectives.image_losses.adversary import Adversary, adversary_for, begin
from tvqrap.objectives.image_losses.image_loss import ImageLoss, perceptual_for
from tvqrap.objectives.kmeans_init import KMEANS_BATCHES
from tvqrap.runtime.device import to_float32
from tvqrap.runtime.errors import UserError
from tvqrap.training.batch import Batch, Microbatch, add_terms, interleave
from tvqrap.training.codebook_usage import CodeUsage, perplexity
from tvqrap.training.distributed import ALONE, Workers
from tvqrap.training.learner import Learner
from tvqrap.training.validation import ImageScores, Validation, picture

KMEANS_ITERATIONS = 12
KMEANS_VECTORS_PER_ENTRY = 64
ENTRIES = "codebook.embedding.weight"


def takes_teacher(step: int, share: float) -> bool:
    """Whether a step trains on teacher images: a `share` of the steps, evenly spread."""
    return math.floor((step + 1) * share) > math.floor(step * share)


class TokenizerTask:
    """Trains the tokenizer, and keeps the entries of its codebook in use."""

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
        self.seed = seed
        self.workers = workers
        self.learner = Learner(
            tokenizer, settings.optimiser, compute, steps=settings.steps, workers=workers
        )
        self.tokenizer = tokenizer
        device, dtype = self.learner.device, self.learner.dtype
        perceptual = perceptual_for(settings.image.perceptual, device, dtype)
        self.image_loss = ImageLoss(settings.image, perceptual, precision=compute.precision)
        self.adversary = adversary_for(settings.image.adversarial, self.learner)
        self.vq_warmup_steps = vq_warmup_steps
        self.validation = [self.learner.image(batch.hr) for batch in validation]
        entries = tokenizer.architecture.codebook
        self.used = torch.zeros(entries, dtype=torch.int64, device=device)
        """How often each code was chosen since the last revival."""
        self.usage = CodeUsage(entries, device)
        self.texture_seen: list[Tensor] = []
        """Texture vectors (M, C) of the last whole batches before k-means."""
        self.quantizes = self.vq_warmup_steps == 0
        # Drawn last, so that the initial weights of the discriminator do not depend on it.
        self.scores = ImageScores(device, dtype)

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """Takes one step on HR crops, this worker's share of the batch."""
        learner = self.learner
        learner.begin(step)
        taught = takes_teacher(step, self.settings.teacher)
        microbatches = [
            (microbatch, learner.image(samples.teacher if taught else samples.hr))
            for microbatch, samples in learner.microbatches(batch)
        ]
        if step == self.vq_warmup_steps and self.vq_warmup_steps:
            self._start_codebook([self._encode(hr).texture.detach() for _, hr in microbatches])
        self.quantizes = step >= self.vq_warmup_steps
        adversary = begin(self.adversary, step)
        terms: dict[str, Tensor] = {}
        textures, codes = [], []
        for microbatch, hr in microbatches:
            encoded = self._encode(hr)
            quantized = None
            if self.quantizes:
                quantized = self.tokenizer.codebook.quantize(encoded.texture)
                codes.append(quantized.codes)
            textures.append(encoded.texture.detach())
            add_terms(terms, self._accumulate(hr, encoded, quantized, microbatch, step, adversary))
        terms = learner.finish(terms, {} if adversary is None else adversary.sum_gradients())
        if adversary is not None:
            adversary.apply_gradients()
        if self.quantizes:
            self._keep_alive(codes, textures, step)
        elif step > self.vq_warmup_steps - KMEANS_BATCHES:
            self.texture_seen.append(self._vectors(textures))
        return terms

    def _encode(self, hr: Tensor) -> Encoded:
        with self.learner.autocast():
            encoded = self.tokenizer.encode(hr)
        return encoded._replace(texture=to_float32(encoded.texture))

    def _accumulate(
        self,
        hr: Tensor,
        encoded: Encoded,
        quantized: Quantized | None,
        microbatch: Microbatch,
        step: int,
        adversary: Adversary | None,
    ) -> dict[str, Tensor]:
        """Adds a microbatch's gradients; returns its terms."""
        terms: dict[str, Tensor] = {}
        values = encoded.texture
        rest = values.new_zeros(())
        if quantized is not None:
            values = quantized.values
            rest = rest + self._codebook_loss(quantized, microbatch, terms)
        whole = len(hr) * microbatch.of
        textured = whole
        if encoded.decoded_structure is not None:
            textured -= round(self.settings.texture_dropout * whole)
        kept = microbatch.leading(textured)
        if textured < whole:
            values = torch.cat((values[:kept], torch.zeros_like(values[kept:])))
        with self.learner.autocast():
            image = to_float32(self.tokenizer.decoder(join(encoded.decoded_structure, values)))
            if encoded.structure is not None:
                rest = rest + self._small_autoencoder_loss(hr, encoded.structure, microbatch, terms)
        discriminator = None if adversary is None else adversary.features
        gradient = self.image_loss.gradients(image, hr, discriminator, textured, microbatch, step)
        terms = {**gradient.terms, **terms}
        at_image = gradient.reconstruction
        if adversary is not None:
            last = self.tokenizer.decoder[-1].get_parameter("weight")
            at_image = adversary.weighted_gradient(image, last, gradient, microbatch, terms)
        if rest.requires_grad:
            torch.autograd.backward([image, rest], [at_image, torch.ones_like(rest)])
        else:
            image.backward(at_image)
        if adversary is not None:
            weight = microbatch.weight(textured)
            terms |= adversary.accumulate(hr[:kept], image[:kept], weight)
        return terms

    def _start_codebook(self, textures: Sequence[Tensor]) -> None:
        """Sets the entries to the k-means centres of the texture seen, this step's included."""
        codebook = self.tokenizer.codebook
        generator = torch.Generator().manual_seed(self.seed)
        vectors = torch.cat([*self.texture_seen, self._vectors(textures)])
        vectors = vectors[vectors.isfinite().all(1)]
        self.texture_seen = []
        if len(vectors) < len(self.used):
            raise UserError(
                f"codebook is {len(self.used)}; allowed are at most {len(vectors)}, the "
                "texture vectors that k-means starts it from (tokenizer.batch_size, crop size)"
            )
        limit = KMEANS_VECTORS_PER_ENTRY * len(self.used)
        chosen = torch.randperm(len(vectors), generator=generator)[:limit]
        vectors = vectors[chosen.to(vectors.device)]
        # On CUDA its sums are added in any order, so that each worker would find other entries.
        if self.workers.is_main:
            codebook.kmeans_(vectors, KMEANS_ITERATIONS, generator)
        self.workers.broadcast(codebook.embedding.weight)
        self.learner.average.set_rows(
            ENTRIES, torch.ones_like(self.used, dtype=torch.bool), codebook.embedding.weight
        )

    def _vectors(self, textures: Sequence[Tensor]) -> Tensor:
        """Texture (n, C, h, w) of this worker's microbatches -> vectors (N h w, C) of the batch.

        They are equal on all workers and in the batch's order, however it was divided.
        """
        rows = [texture.permute(0, 2, 3, 1).flatten(1, 2) for texture in textures]
        return self.workers.gather(interleave(rows)).flatten(0, 1)

    def _codebook_loss(
        self, quantized: Quantized, microbatch: Microbatch, terms: dict[str, Tensor]
    ) -> Tensor:
        settings = self.settings
        on_entries, on_encoder = settings.loss_weights.codebook, settings.loss_weights.commitment
        if settings.commitment_on == "codebook":
            on_entries, on_encoder = on_encoder, on_entries
        terms["codebook"] = quantized.codebook_loss.detach() / microbatch.of
        loss = on_entries * quantized.codebook_loss + on_encoder * quantized.commitment_loss
        return loss / microbatch.of

    def _small_autoencoder_loss(
        self, hr: Tensor, structure: Tensor, microbatch: Microbatch, terms: dict[str, Tensor]
    ) -> Tensor:
        settings = self.settings
        assert self.tokenizer.small_autoencoder is not None
        reduced = self.tokenizer.small_autoencoder(hr)
        small = F.mse_loss(to_float32(reduced.image), reduced.reduced) / microbatch.of
        alignment = (
            F.mse_loss(to_float32(structure), to_float32(reduced.structure).detach())
            / microbatch.of
        )
        terms["small_autoencoder"], terms["alignment"] = small.detach(), alignment.detach()
        return (
            settings.loss_weights.small_autoencoder * small
            + settings.loss_weights.alignment * alignment
        )

    def _keep_alive(self, codes: Sequence[Tensor], textures: Sequence[Tensor], step: int) -> None:
        """Counts the codes in use and revives the entries unused since the last revival."""
        # Codes and texture of a skipped update may not be finite: they must not count.
        applied = self.learner.applied
        counts = count_codes(torch.cat([each.flatten() for each in codes]), len(self.used))
        counts *= applied
        self.usage.add(counts, self.workers)
        self.used += counts
        every = self.settings.codebook_life.revive_every
        if not every or (step + 1) % every or step + 1 == self.settings.steps:
            return
        if step + 1 < self.vq_warmup_steps + every:  # k-means has just set the entries
            return
        dead = (self.used == 0) & applied
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        entries = self.tokenizer.codebook.embedding.weight
        self.tokenizer.codebook.revive_(dead, self._vectors(textures), generator)
        self.learner.average.set_rows(ENTRIES, dead, entries)
        for name in ("exp_avg", "exp_avg_sq"):
            self.learner.optimiser.state[entries][name].masked_fill_(dead[:, None], 0)
        self.used *= ~applied

    def health(self) -> tuple[dict[str, float], str | None]:
        """Returns use of codes and learning rate, and advice where too few codes are used."""
        numbers = {**self.learner.health(), **self.usage.look()}
        share = self.usage.collapse()
        if share is None:
            return numbers, None
        return numbers, (
            f"{share:.1%} of the codebook is in use: it is collapsing. Start it by k-means "
            "(tokenizer.codebook_life.vq_warmup_steps), revive dead entries (revive_every), or "
            "lower codebook or the learning rate"
        )

    @torch.no_grad()
    def validate(self) -> Validation:
        """Scores the reconstruction of validation crops by the averaged weights, and codes in use.

        Before the steps that quantize, the texture is decoded as it is, and codes are not scored.
        """
        tokenizer = self.learner.average.module
        counts = torch.zeros_like(self.used)
        pairs = []
        for hr in self.validation:
            with self.learner.autocast():
                encoded = tokenizer.encode(hr)
                texture = to_float32(encoded.texture)
                if self.quantizes:
                    codes = tokenizer.codebook.nearest(texture)
                    counts += count_codes(codes, len(counts))
                    texture = tokenizer.codebook.lookup(codes)
                image = tokenizer.decoder(join(encoded.decoded_structure, texture))
            pairs.append((to_float32(image), hr))
        scores = self.scores(pairs)
        if self.quantizes:
            scores["codes_used"] = (counts > 0).float().mean().item()
            scores["perplexity"] = perplexity(counts).item()
        return Validation(scores, picture(*pairs[0]))

    def state(self) -> dict[str, Any]:
        """Returns everything that the next update depends on."""
        return {
            "learner": self.learner.state(),
            "adversary": self.adversary.state() if self.adversary else None,
            "used": self.used,
            "usage": self.usage.state(),
            "texture_seen": self.texture_seen,
            "quantizes": self.quantizes,
        }

    def load_state(self, state: Mapping[str, Any]) -> None:
        """Restores a state."""
        self.learner.load_state(state["learner"])
        if self.adversary and state["adversary"]:  # none where the GAN term was added since
            self.adversary.load_state(state["adversary"])
        self.used = state["used"].to(self.learner.device)
        self.usage.load_state(state["usage"])
        self.texture_seen = [
            vectors.to(self.learner.device, self.learner.dtype) for vectors in state["texture_seen"]
        ]
        self.quantizes = state["quantizes"]
