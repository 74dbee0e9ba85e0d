"""The upscaler: the predictor, and the parts of the tokenizer that decode its tokens."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.architecture import Architecture, Assignment
from tvqrap.networks.codebook import Codebook
from tvqrap.networks.predictor import Prediction, Predictor
from tvqrap.networks.tokenizer import decoder, join, structure_decoder


class UpscalerNetwork(nn.Module):
    """The predictor with the three parts of the tokenizer that decode its tokens into an image.

    LR images are float32 (N, 3, H, W) in [-1, 1], sides multiples of `Architecture.lr_multiple`.
    Upscaled images are (N, 3, 4H, 4W), not clamped.

    `assignment` says how scores become texture; it may be changed between passes.
    """

    structure_decoder: nn.Sequential | None

    def __init__(self, architecture: Architecture, assignment: Assignment = "hard") -> None:
        super().__init__()
        self.architecture = architecture
        self.assignment = assignment
        self.predictor = Predictor(architecture)
        self.codebook = Codebook(architecture.codebook, architecture.texture_channels)
        self.structure_decoder = (
            None if architecture.structure is None else structure_decoder(architecture)
        )
        self.decoder = decoder(architecture)

    def predict(self, lr: Tensor) -> Prediction:
        """Predicts the tokens of the HR image."""
        return self.predictor(lr, self.structure_decoder)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscales LR images (N, 3, H, W) to (N, 3, 4H, 4W)."""
        return self.decode(self.predict(lr))

    def decode(self, prediction: Prediction) -> Tensor:
        """Decodes a prediction to an image, without a gradient to hard codes."""
        if self.assignment == "soft":
            texture = self._mean_entries(prediction.logits)
        else:
            texture = self.codebook.lookup(prediction.logits.argmax(1))
        return self.decoder(join(prediction.decoded_structure, texture))

    def straight_through_texture(self, logits: Tensor) -> Tensor:
        """Texture for the decoder (N, C, h, w), with a gradient to the logits (paper, section 3.2).

        Under hard assignment it holds the entries with the highest score, and has the gradient of
        the mean entry, weighted by the softmax of the scores. Under soft assignment it is that
        mean. The codebook gets no gradient.
        """
        soft = self._mean_entries(logits)
        if self.assignment == "soft":
            return soft
        # A lookup gives the product of the one-hot and the entries in less time.
        hard = F.embedding(logits.argmax(1), self.codebook.embedding.weight.detach())
        return soft + (hard.permute(0, 3, 1, 2) - soft).detach()

    def _mean_entries(self, logits: Tensor) -> Tensor:
        """Mean of the entries (N, C, h, w), weighted by the softmax of their scores."""
        entries = self.codebook.embedding.weight.detach()
        return (logits.permute(0, 2, 3, 1).softmax(3) @ entries).permute(0, 3, 1, 2)

    def freeze(self) -> None:
        """Makes the predictor the one part that gets gradients."""
        self.requires_grad_(False)
        self.predictor.requires_grad_(True)
