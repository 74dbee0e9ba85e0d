"""The whole upscaler, as it is used and as reconstruction-aware prediction trains it."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from tvqrap.architecture import Architecture, Assignment
from tvqrap.networks.codebook import Codebook
from tvqrap.networks.predictor import Prediction, Predictor
from tvqrap.networks.tokenizer import Tokenizer, decoder, join, structure_decoder


class UpscalerNetwork(nn.Module):
    """The predictor with the three parts of the tokenizer that turn its tokens into an image.

    LR images are float32 (N, 3, H, W) in [-1, 1], sides multiples of `Architecture.lr_multiple`;
    what comes out is (N, 3, 4H, 4W), not clamped.

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
        """The predictor's answer alone."""
        return self.predictor(lr, self.structure_decoder)

    def forward(self, lr: Tensor) -> Tensor:
        """Upscales."""
        return self.decode(self.predict(lr))

    def decode(self, prediction: Prediction) -> Tensor:
        """The image of a prediction, without a gradient to hard codes."""
        if self.assignment == "soft":
            texture = self._mean_entries(prediction.logits)
        else:
            texture = self.codebook.lookup(prediction.logits.argmax(1))
        return self.decoder(join(prediction.decoded_structure, texture))

    def straight_through(self, lr: Tensor) -> tuple[Tensor, Prediction]:
        """Upscales as `forward` does, with a gradient to the logits: (image, prediction).

        The codes' gradient is that of a softmax over the codebook, which itself gets none
        (section 4.2 of the paper).
        """
        prediction = self.predict(lr)
        texture = self.straight_through_texture(prediction.logits)
        return self.decoder(join(prediction.decoded_structure, texture)), prediction

    def straight_through_texture(self, logits: Tensor) -> Tensor:
        """What the decoder is given (N, C, h, w), with the gradient of the softmax's mean entry.

        Under soft assignment that gradient is the exact one.
        """
        soft = self._mean_entries(logits)
        if self.assignment == "soft":
            return soft
        # soft + (hard - soft).detach(), times the entries: looked up in place of a one-hot product.
        hard = F.embedding(logits.argmax(1), self.codebook.embedding.weight.detach())
        return soft + (hard.permute(0, 3, 1, 2) - soft).detach()

    def _mean_entries(self, logits: Tensor) -> Tensor:
        """Entries (N, C, h, w), weighted by the softmax of their scores; they get no gradient."""
        entries = self.codebook.embedding.weight.detach()
        return (logits.permute(0, 2, 3, 1).softmax(3) @ entries).permute(0, 3, 1, 2)

    def take_frozen(self, tokenizer: Tokenizer) -> None:
        """Copies codebook, structure decoder and decoder of a tokenizer, and freezes them.

        Raises:
            ValueError: The tokenizer has another architecture.
        """
        if tokenizer.architecture != self.architecture:
            raise ValueError(
                f"the tokenizer's architecture is {tokenizer.architecture}, "
                f"the upscaler's {self.architecture}"
            )
        self.codebook.load_state_dict(tokenizer.codebook.state_dict())
        self.decoder.load_state_dict(tokenizer.decoder.state_dict())
        if self.structure_decoder is not None and tokenizer.structure_decoder is not None:
            self.structure_decoder.load_state_dict(tokenizer.structure_decoder.state_dict())
        self.freeze()

    def freeze(self) -> None:
        """Takes the gradient from all but the predictor."""
        self.requires_grad_(False)
        self.predictor.requires_grad_(True)
