"""What the training stages can be told: one frozen model per section of params.yaml.

No field has a default: params.yaml is complete, so that every number that shaped a model can be
read there and a change of the code's mind cannot change a result.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, Strict, model_validator

from tvqrap.architecture import Assignment
from tvqrap.config.base import Settings

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
TeacherShare = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]


class Compute(Settings):
    """What can change the last bits of a result, and is therefore recorded."""

    device: Literal["cpu", "cuda"]
    precision: Literal["float32", "bfloat16", "float64"]
    """`bfloat16` is autocast: weights, optimiser and codes stay float32. `float64` is for checks:
    trainings differ by rounding alone, whatever workers and parts their batches are divided into.
    """
    threads: Positive
    """Arithmetic threads of a training process; sums are grouped by them."""
    workers: Positive
    """Training processes, each with an equal part of every batch."""
    grad_accum_steps: Positive
    """Parts that a worker takes its part of a batch in, one after the other: less memory."""
    compile: bool
    """Whether the networks' blocks are compiled (`torch.compile`): minutes at the start."""


class Optimiser(Settings):
    """Adam, its schedule and the running average of the weights."""

    learning_rate: Annotated[float, Field(gt=0)]
    betas: Annotated[tuple[Decay, Decay], Strict(False)]
    warmup_steps: NotNegative
    """Steps of linear growth to `learning_rate`."""
    lr_schedule: Literal["constant", "cosine"]
    """`cosine` falls to a fiftieth of `learning_rate` at the last step."""
    grad_clip_norm: Annotated[float, Field(gt=0)] | None
    """Largest norm of the gradient; none: as it is."""
    ema_decay: Decay
    """Decay of the weights' running average, which is what a stage writes."""


class Perceptual(Settings):
    """The perceptual image loss."""

    network: Literal["stlpips_alex", "stlpips_vgg", "lpips_vgg"]
    """`stlpips_*`: weights from an installed package; `lpips_vgg`: weights to be fetched first."""
    weight: Weight
    share: Share
    """Leading part of each batch that it is computed on (at least one image)."""
    augment: bool
    """Whether each step compares another random view (`tvqrap.losses.augmentation`)."""


class Adversarial(Settings):
    """The GAN term (hinge) and its discriminator."""

    weight: Weight
    """Times the adaptive weight; 0 leaves the discriminator out."""
    start: NotNegative
    """First step that uses it."""
    learning_rate: Annotated[float, Field(gt=0)]
    width: Annotated[float, Field(gt=0, le=4)]
    """Channels of the discriminator relative to the paper's; it may be wider than the network."""


class ImageLosses(Settings):
    """Losses between an image made by the decoder and HR, both in [-1, 1]."""

    mse: Weight
    l1: Weight
    gradient: Weight
    """L1 between horizontal and vertical differences."""
    chroma: Weight
    """L1 between colours, brightness apart."""
    grid: Weight
    """Against squares of the size of codes or LR pixels: `tvqrap.losses.blockiness`."""
    contrast: Weight
    """Contrast by direction: against noise on surfaces, dots along edges and blur across them."""
    perceptual: Perceptual
    adversarial: Adversarial


class TeacherShares(Settings):
    """Shares of the image losses that compare with the teacher's image in place of HR.

    Between 0 and 1 both targets count, each by its share.
    """

    pixels: TeacherShare
    """Share of the losses between pixels: mse, l1, gradient, chroma, grid, contrast."""
    perceptual: TeacherShare
    """Share of the perceptual distance."""

    @property
    def any(self) -> bool:
        """Whether the teacher's image is read at all."""
        return self.pixels > 0 or self.perceptual > 0


PHOTOS_ALONE = TeacherShares(pixels=0.0, perceptual=0.0)


class TokenizerLossWeights(Settings):
    """Weights of the stage-1 terms beside the image losses."""

    codebook: Weight
    commitment: Weight
    small_autoencoder: Weight
    """Weight of the small autoencoder's reconstruction error."""
    alignment: Weight
    """Weight of the squared distance between the structure and the small autoencoder's code."""


class TokenLossWeights(Settings):
    """Weights of the token terms of stages 2 and 3."""

    structure: Weight
    """Weight of the squared error of the predicted structure."""
    code: Weight
    """Weight of the cross-entropy of the predicted codes."""


class CodebookLife(Settings):
    """How the codebook starts and what keeps its entries in use."""

    vq_warmup_steps: NotNegative
    """First steps train without quantization; k-means on the texture then sets the entries.
    0: entries start uniform in +-1/codebook and quantization is on from the first step."""
    revive_every: NotNegative
    """Steps between revivals of entries unused since the last one; 0: never."""


class Monitoring(Settings):
    """How often a training looks at itself."""

    validate_every: Positive
    checkpoint_every: Positive


class TokenizerTraining(Settings):
    """Stage 1."""

    set: str
    batch_size: Positive
    steps: NotNegative
    optimiser: Optimiser
    image: ImageLosses
    loss_weights: TokenizerLossWeights
    commitment_on: Literal["encoder", "codebook"]
    """`encoder`: the commitment weight is on the term that moves the encoder (VQ-VAE);
    `codebook`: on the other one, as in the authors' settings."""
    texture_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Trailing part of each batch that is decoded from the structure alone: what the structure can
    hold is then not left to the codes. 0 is the paper's; no effect without a structure."""
    teacher: TeacherShare
    """Share of the steps that train on the teacher's images in place of HR."""
    codebook_life: CodebookLife
    monitoring: Monitoring

    @property
    def length(self) -> int:
        """Steps."""
        return self.steps

    @model_validator(mode="after")
    def _some_texture(self) -> Self:
        if round(self.texture_dropout * self.batch_size) == self.batch_size:
            raise ValueError(
                f"texture_dropout is {self.texture_dropout:g}; allowed with a batch of "
                f"{self.batch_size} is what leaves one image its texture"
            )
        return self

    @model_validator(mode="after")
    def _ends_quantized(self) -> Self:
        unquantized = self.codebook_life.vq_warmup_steps
        if 0 < self.steps <= unquantized:
            raise ValueError(
                f"codebook_life.vq_warmup_steps is {unquantized}; allowed with {self.steps} steps "
                f"are 0 to {self.steps - 1}, so that the codebook is set before the end"
            )
        return self


class Phase(Settings):
    """A run of steps on one set."""

    set: str
    batch_size: Positive
    steps: NotNegative


class PredictorTraining(Settings):
    """Stage 2."""

    phases: Annotated[tuple[Phase, ...], Strict(False), Field(min_length=1)]
    optimiser: Optimiser
    loss_weights: TokenLossWeights
    monitoring: Monitoring

    @property
    def length(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)


class RapTraining(Settings):
    """Stage 3."""

    set: str
    batch_size: Positive
    steps: NotNegative
    optimiser: Optimiser
    train_decoder: bool
    """Whether the decoder learns along with the predictor. The paper's stays frozen."""
    assignment: Assignment
    """What the decoder is given of the codes' scores. The paper's is hard."""
    image: ImageLosses
    teacher: TeacherShares
    loss_weights: TokenLossWeights
    """Weights of the stage-2 terms; 0 leaves a term out."""
    monitoring: Monitoring

    @property
    def length(self) -> int:
        """Steps."""
        return self.steps

    @model_validator(mode="after")
    def _some_image_loss(self) -> Self:
        image = self.image
        if self.steps and not (image.mse or image.l1 or image.perceptual.weight):
            raise ValueError(
                "image: mse, l1 and perceptual.weight are all 0; at least one must be positive"
            )
        return self
