"""Stage 1: the tokenizer learns to split HR into structure and texture codes and back.

Paper, section 3.2: reconstruction, perceptual, adversarial and codebook losses, an autoencoder of
the reduced image, and the alignment of the structure with that autoencoder's features.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tvqrap.codebook import Quantized
from tvqrap.errors import UserError
from tvqrap.losses import ImageLoss, adaptive_weight
from tvqrap.tokenizer import Tokenizer, join
from tvqrap.training.adversary import adversary_for
from tvqrap.training.batch import Batch, as_image
from tvqrap.training.ema import WeightsAverage
from tvqrap.training.optimisation import adam, apply_gradients, learning_rate
from tvqrap.training.perceptual import perceptual_for
from tvqrap.training.precision import autocast, device_of, on_device
from tvqrap.training.settings import KMEANS_BATCHES, Compute, TokenizerTraining
from tvqrap.training.validation import ImageScores

KMEANS_ITERATIONS = 12
KMEANS_VECTORS_PER_ENTRY = 64
ENTRIES = "codebook.embedding.weight"


class TokenizerTrainee:
    """The tokenizer, its average, its adversary and the life of its codebook."""

    def __init__(
        self,
        tokenizer: Tokenizer,
        settings: TokenizerTraining,
        compute: Compute,
        *,
        seed: int,
        unquantized: int,
        validation: Sequence[Batch],
    ) -> None:
        """`unquantized`: first steps without quantization; k-means on the texture of the last of
        them then sets the codebook's entries. 0: the entries are ones to keep.
        """
        self.settings = settings
        self.compute = compute
        self.seed = seed
        self.device = device_of(compute)
        self.tokenizer = on_device(tokenizer, self.device).train()
        self.average = WeightsAverage(self.tokenizer, settings.optimiser.ema)
        self.optimiser = adam(self.tokenizer.parameters(), settings.optimiser)
        perceptual = perceptual_for(settings.image.perceptual)
        if perceptual is not None:
            perceptual.to(self.device)
        self.image_loss = ImageLoss(settings.image, perceptual)
        self.scores = ImageScores(perceptual)
        self.adversary = adversary_for(
            settings.image.adversarial,
            settings.optimiser,
            tokenizer.architecture.width,
            self.device,
        )
        self.unquantized = unquantized
        self.validation = [as_image(batch.hr, self.device) for batch in validation]
        entries = tokenizer.architecture.codebook
        self.used = torch.zeros(entries, dtype=torch.int64, device=self.device)
        self.texture_seen: list[Tensor] = []
        self.quantizes = self.unquantized == 0

    def update(self, batch: Batch, step: int) -> dict[str, Tensor]:
        """One step on HR crops."""
        settings = self.settings
        for group in self.optimiser.param_groups:
            group["lr"] = learning_rate(settings.optimiser, step, settings.steps)
        hr = as_image(batch.hr, self.device)
        terms: dict[str, Tensor] = {}
        with autocast(self.compute):
            encoded = self.tokenizer.encode(hr)
        texture = encoded.texture.float()
        quantized = self._quantize(texture, step)
        rest = texture.new_zeros(())
        if quantized is None:
            values = texture
        else:
            values = quantized.values
            rest = rest + self._codebook_loss(quantized, terms)
        textured = len(hr)
        if encoded.decoded_structure is not None:
            textured -= round(settings.texture_dropout * len(hr))
            values = torch.cat((values[:textured], torch.zeros_like(values[textured:])))
        with autocast(self.compute):
            image = self.tokenizer.decoder(join(encoded.decoded_structure, values)).float()
            if encoded.structure is not None:
                rest = rest + self._small_autoencoder_loss(hr, encoded.structure, terms)
        fooled = None
        if self.adversary is not None and self.adversary.active(step):
            fooled = self.adversary.discriminator
        gradient = self.image_loss.gradients(image, hr, fooled, judged=textured)
        terms = {**gradient.terms, **terms}
        at_image = gradient.reconstruction
        if gradient.adversarial is not None:
            last = self.tokenizer.decoder[-1].get_parameter("weight")
            (ours,) = torch.autograd.grad(image, last, gradient.reconstruction, retain_graph=True)
            (theirs,) = torch.autograd.grad(image, last, gradient.adversarial, retain_graph=True)
            terms["adaptive_weight"] = adaptive_weight(ours, theirs)
            factor = settings.image.adversarial.weight * terms["adaptive_weight"]
            at_image = at_image + factor * gradient.adversarial
        if rest.requires_grad:
            torch.autograd.backward([image, rest], [at_image, torch.ones_like(rest)])
        else:
            image.backward(at_image)
        terms["gradient_norm"] = apply_gradients(self.optimiser, settings.optimiser)
        self.average.update(self.tokenizer)
        if fooled is not None:
            assert self.adversary is not None
            terms |= self.adversary.update(hr[:textured], image[:textured])
        if quantized is not None:
            self._keep_alive(quantized.codes, texture.detach(), step, terms)
        return terms

    def _quantize(self, texture: Tensor, step: int) -> Quantized | None:
        """Quantizes from step `unquantized` on, where k-means first sets the entries."""
        if step < self.unquantized:
            if step > self.unquantized - KMEANS_BATCHES:
                self.texture_seen.append(_vectors(texture.detach()))
            return None
        codebook = self.tokenizer.codebook
        self.quantizes = True
        if step == self.unquantized and self.unquantized:
            generator = torch.Generator().manual_seed(self.seed)
            vectors = torch.cat([*self.texture_seen, _vectors(texture.detach())])
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
        return codebook.quantize(texture)

    def _codebook_loss(self, quantized: Quantized, terms: dict[str, Tensor]) -> Tensor:
        settings = self.settings
        on_entries, on_encoder = settings.codebook, settings.commitment
        if settings.commitment_on == "codebook":
            on_entries, on_encoder = on_encoder, on_entries
        terms["codebook"] = quantized.codebook_loss.detach()
        return on_entries * quantized.codebook_loss + on_encoder * quantized.commitment_loss

    def _small_autoencoder_loss(
        self, hr: Tensor, structure: Tensor, terms: dict[str, Tensor]
    ) -> Tensor:
        settings = self.settings
        assert self.tokenizer.small_autoencoder is not None
        reduced = self.tokenizer.small_autoencoder(hr)
        small = F.mse_loss(reduced.image.float(), reduced.reduced)
        alignment = F.mse_loss(structure.float(), reduced.structure.float().detach())
        terms["small_autoencoder"], terms["alignment"] = small.detach(), alignment.detach()
        return settings.small_autoencoder * small + settings.alignment * alignment

    def _keep_alive(
        self, codes: Tensor, texture: Tensor, step: int, terms: dict[str, Tensor]
    ) -> None:
        """Counts the codes in use and revives those unused since the last revival."""
        self.used += codes.flatten().bincount(minlength=len(self.used))
        terms["codes_in_batch"] = torch.tensor(float(codes.unique().numel()))
        every = self.settings.codebook_life.revive_every
        if not every or (step + 1) % every or step + 1 == self.settings.steps:
            return
        dead = self.used == 0
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + step)
        entries = self.tokenizer.codebook.embedding.weight
        self.tokenizer.codebook.revive_(dead, _vectors(texture), generator)
        self.average.set_rows(ENTRIES, dead, entries[dead])
        for name in ("exp_avg", "exp_avg_sq"):
            self.optimiser.state[entries][name][dead] = 0
        self.used.zero_()

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Reconstruction of validation crops by the averaged weights, with codes in use.

        Until the texture is quantized it is decoded as it is, and no code is in use.
        """
        tokenizer = self.average.module
        codes_used = torch.zeros_like(self.used)
        pairs = []
        for hr in self.validation:
            with autocast(self.compute):
                encoded = tokenizer.encode(hr)
                texture = encoded.texture.float()
                if self.quantizes:
                    codes = tokenizer.codebook.nearest(texture)
                    codes_used += codes.flatten().bincount(minlength=len(codes_used))
                    texture = tokenizer.codebook.lookup(codes)
                image = tokenizer.decoder(join(encoded.decoded_structure, texture))
            pairs.append((image.float(), hr))
        share = codes_used / codes_used.sum().clamp_min(1)
        entropy = -(share * share.clamp_min(1e-12).log()).sum()
        scores = self.scores(pairs)
        if not self.quantizes:
            return scores
        return {
            **scores,
            "codes_used": (codes_used > 0).float().mean().item(),
            "perplexity": entropy.exp().item(),
        }

    def state(self) -> dict[str, Any]:
        """Everything the next update depends on."""
        return {
            "tokenizer": self.tokenizer.state_dict(),
            "average": self.average.state(),
            "optimiser": self.optimiser.state_dict(),
            "adversary": self.adversary.state() if self.adversary else None,
            "used": self.used,
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
        self.texture_seen = [vectors.to(self.device) for vectors in state["texture_seen"]]
        self.quantizes = state["quantizes"]


def _vectors(texture: Tensor) -> Tensor:
    """(N, C, h, w) -> (N h w, C)."""
    return texture.permute(0, 2, 3, 1).flatten(0, 2)
