"""Settings of the training stages: one frozen model for each section of params.yaml.

No field has a default. params.yaml is complete, so it shows every number that shapes a model, and a
change of the code cannot change a result.
"""

from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    AliasChoices,
    Discriminator,
    Field,
    Strict,
    Tag,
    model_validator,
)

from tvqrap.architecture import Assignment
from tvqrap.config.base import Settings
from tvqrap.runtime.device_names import check_device_name

Positive = Annotated[int, Field(gt=0)]
NotNegative = Annotated[int, Field(ge=0)]
Weight = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
TeacherShare = Annotated[float, Field(ge=0, le=1)]
Decay = Annotated[float, Field(ge=0, lt=1)]
MixtureWeight = Annotated[int, Field(gt=0, le=1000)]


class Compute(Settings):
    """How trainings compute. These can change the last bits of a result, and are recorded."""

    device: Annotated[str, AfterValidator(check_device_name)]
    """Device that trainings run on: `cpu`, `cuda`, `cuda:1`, `mps`, `xpu`, or `auto`, the first of
    CUDA, MPS and XPU that torch finds, else the CPU. Several workers share no device: `cpu`,
    `cuda`, or `auto`."""
    precision: Literal["float32", "bfloat16", "float64"]
    """Number format. `bfloat16` is autocast: weights, optimiser, code scores and code search stay
    float32. `float64` is for checks: results then differ by rounding alone, however many workers
    and gradient-accumulation steps a batch is divided into."""
    threads: Positive
    """CPU threads of each training process. Sums are grouped by threads."""
    workers: Positive | Literal["auto"]
    """Training processes; each takes an equal share of every batch. `auto`: one for each CUDA
    device of this machine. A stage whose batches cannot be divided among so many uses fewer."""
    grad_accum_steps: Positive
    """Gradient-accumulation steps: microbatches that a worker divides its share of a batch into.
    More of them take less memory."""
    compile: bool
    """Whether `torch.compile` compiles the blocks of the networks, which takes minutes at start."""
    activation_checkpointing: bool
    """Whether the backward pass computes each block of the networks again, of which the forward
    pass then keeps the input alone: less memory, more arithmetic, the same result."""
    tf32: bool
    """Whether a CUDA device rounds the factors of float32 convolutions and matrix products to TF32
    (10 bits of fraction). Code search does not: it computes in float64."""
    cudnn_benchmark: bool
    """Whether cuDNN times its algorithms for each size and takes the fastest. Runs can then choose
    differently, which changes last bits."""

    @model_validator(mode="after")
    def _devices(self) -> "Compute":
        if self.workers != "auto":
            self.check_workers(self.workers)
        if self.precision == "float64" and self.device == "mps":
            raise ValueError("precision is float64 with device mps, which has float32 alone")
        return self

    def check_workers(self, count: int) -> None:
        """Raises ValueError where the device serves a single worker."""
        if count > 1 and self.device not in ("auto", "cpu", "cuda"):
            found = f"device is {self.device!r} with {count} workers"
            raise ValueError(f"{found}, expected auto, cpu or cuda")


class Optimiser(Settings):
    """Adam, its learning-rate schedule, and the running average of the weights."""

    learning_rate: Annotated[float, Field(gt=0)]
    """Learning rate after the warm-up."""
    betas: Annotated[tuple[Decay, Decay], Strict(False)]
    """Decay of Adam's running means of the gradient and of its square."""
    warmup_steps: NotNegative
    """Steps in which the learning rate grows linearly to `learning_rate`."""
    lr_schedule: Literal["constant", "cosine", "step"]
    """Schedule of the learning rate, that of the discriminator included: `cosine` falls to
    `lr_floor` at the last step, `step` is multiplied by `lr_factor` at each of `lr_milestones`."""
    lr_floor: Annotated[float, Field(ge=0, le=1)]
    """Fraction of the learning rate that `cosine` ends with."""
    lr_milestones: Annotated[tuple[Positive, ...], Strict(False)]
    """Steps at which `step` lowers the learning rate."""
    lr_factor: Annotated[float, Field(gt=0, le=1)]
    """Factor of `step` at each milestone."""
    grad_clip_norm: Annotated[float, Field(gt=0)] | None
    """Largest norm of the gradient; null: the gradient is not clipped."""
    ema_decay: Decay
    """Decay of the running average of the weights, which a stage writes as its model."""

    @model_validator(mode="after")
    def _has_milestones(self) -> Self:
        milestones = self.lr_milestones
        if self.lr_schedule == "step" and not milestones:
            raise ValueError("lr_milestones is empty; lr_schedule step needs one or more steps")
        if list(milestones) != sorted(set(milestones)):
            raise ValueError(f"lr_milestones is {list(milestones)}; expected ascending steps")
        return self


class Perceptual(Settings):
    """The perceptual loss."""

    network: Literal["stlpips_alex", "stlpips_vgg", "lpips_vgg"]
    """Network of the loss. An installed package holds the weights of `stlpips_*`; those of
    `lpips_vgg` have to be downloaded first."""
    weight: Weight
    """Weight of the loss; 0 leaves it out."""
    share: Share
    """Share of each batch, from its start, that the loss is computed on (one image at least)."""
    augment: bool
    """Whether both images are augmented alike at each step (`tvqrap.losses.augmentation`)."""


class Adversarial(Settings):
    """The GAN term (hinge loss) and its discriminator."""

    weight: Weight
    """Weight of the term, which multiplies the adaptive weight; 0 leaves out the discriminator."""
    start: NotNegative
    """First step that uses the term."""
    warmup_steps: NotNegative
    """Steps from `start` on in which the term's weight grows linearly to `weight`. The
    discriminator learns from the first of them on."""
    learning_rate: Annotated[float, Field(gt=0)]
    """Learning rate of the discriminator; warm-up and schedule are those of `optimiser`."""
    width: Annotated[float, Field(gt=0, le=4)]
    """Channels of the discriminator relative to 64 in its first layer, whatever the network's
    width."""
    discriminator: Literal["patch", "unet"]
    """patch: the paper's PatchGAN with batch norm; unet: a U-Net with spectral norm
    (`tvqrap.losses.discriminator`)."""
    matching: Weight
    """Weight, beside the hinge loss, of the distance between the discriminator's features of the
    image and of its target; the paper has none."""


class ImageLosses(Settings):
    """Weights of the losses between a decoded image and its target, both in [-1, 1]."""

    mse: Weight
    """Weight of the mean squared error."""
    l1: Weight
    """Weight of the mean absolute error."""
    gradient: Weight
    """Weight of the L1 distance between horizontal and vertical pixel differences."""
    chroma: Weight
    """Weight of the L1 distance between colours, without brightness."""
    grid: Weight
    """Weight of the blockiness loss on grids of code or LR pixel size
    (`tvqrap.losses.blockiness`)."""
    contrast: Weight
    """Weight of the loss on local contrast by direction, against noise on even surfaces, dots along
    edges and blur across edges (`tvqrap.losses.contrast`)."""
    perceptual: Perceptual
    """The perceptual loss."""
    adversarial: Adversarial
    """The GAN term."""

    @model_validator(mode="after")
    def _adaptive(self) -> Self:
        if self.adversarial.weight:  # it is relative to them
            self.check_reconstruction()
        return self

    def check_reconstruction(self) -> None:
        """Raises ValueError without a loss that is minimal where an image equals its target."""
        if not (self.mse or self.l1 or self.perceptual.weight):
            raise ValueError("image.mse, l1 and perceptual.weight are all 0; one must be positive")


class TeacherShares(Settings):
    """Shares of the image losses that compare with the teacher's image instead of HR.

    A share between 0 and 1 compares with both, weighted by the share.
    """

    pixels: TeacherShare
    """Share of the losses between pixels: mse, l1, gradient, chroma, grid and contrast."""
    perceptual: TeacherShare
    """Share of the perceptual loss."""
    adversarial: bool
    """Whether the teacher's images are the real ones of the GAN term, and those that its features
    are matched with."""

    @property
    def any(self) -> bool:
        """Whether a loss reads the teacher's images."""
        return self.pixels > 0 or self.perceptual > 0 or self.adversarial


HR_ONLY = TeacherShares(pixels=0.0, perceptual=0.0, adversarial=False)


class TokenizerLossWeights(Settings):
    """Weights of the stage-1 terms beside the image losses."""

    codebook: Weight
    """Weight of the squared distance between texture and entries that moves the entries."""
    commitment: Weight
    """Weight of the same distance, which moves the encoder."""
    small_autoencoder: Weight
    """Weight of the small autoencoder's reconstruction error."""
    alignment: Weight
    """Weight of the squared distance between the structure and the small autoencoder's code."""


class TokenLossWeights(Settings):
    """Weights of the losses against tokens in stages 2 and 3."""

    structure: Weight
    """Weight of the squared error of the predicted structure."""
    code: Weight
    """Weight of the cross-entropy of the predicted codes."""


class CodebookLife(Settings):
    """Initialisation of the codebook, and revival of its unused entries."""

    vq_warmup_steps: NotNegative
    """First steps, which train without quantization; k-means on the texture then sets the entries.
    0: entries start uniform in +-1/codebook, and the first step quantizes."""
    revive_every: NotNegative
    """Steps between revivals of the entries unused since the last one, or k-means; 0: never."""


class Monitoring(Settings):
    """Intervals of curves, validation and checkpoints."""

    record_every: Positive
    """Steps between rows of the curves, which hold means over the steps since the row before."""
    validate_every: Positive
    """Steps between validations."""
    checkpoint_every: Positive
    """Steps between checkpoints; the last two are kept."""
    keep_every: NotNegative
    """Steps between milestones: checkpoints that are kept for good; 0: none."""
    max_skipped_updates: Positive
    """Updates in a row, skipped as a loss or gradient is not finite, that end the training."""


class StageTraining(Settings):
    """Settings that the three training stages share."""

    workers: Positive | None
    """Training processes of this stage; empty: `compute.workers`, or as many of them as its batches
    can be divided among."""
    grad_accum_steps: Positive | None
    """Gradient-accumulation steps of this stage; empty: those of `compute`."""
    optimiser: Optimiser
    """Adam and its schedule, over all steps of the stage."""
    monitoring: Monitoring
    """Intervals of curves, validation and checkpoints."""


class TokenizerTraining(StageTraining):
    """Stage 1: training of the tokenizer."""

    set: str
    """Set of pairs whose HR crops are trained on."""
    batch_size: Positive
    """HR crops in a step."""
    steps: NotNegative
    """Steps of the training."""
    image: ImageLosses
    """Weights of the image losses."""
    loss_weights: TokenizerLossWeights
    """Weights of the other terms."""
    commitment_on: Literal["encoder", "codebook"]
    """Term that the commitment weight multiplies: `encoder`, the one that moves the encoder
    (VQ-VAE); `codebook`, the one that moves the entries, as in the authors' settings."""
    texture_dropout: Annotated[float, Field(ge=0, lt=1)]
    """Share of each batch, at its end, that is decoded from the structure alone. The codes then
    leave to the structure what it can represent. 0 is the paper's; no effect without structure."""
    teacher: TeacherShare
    """Share of the steps that train on the teacher's images instead of HR."""
    codebook_life: CodebookLife
    """Initialisation and revival of entries."""

    @property
    def length(self) -> int:
        """Steps of the training."""
        return self.steps

    @property
    def textured(self) -> int:
        """Images of a batch that keep their texture."""
        return self.batch_size - round(self.texture_dropout * self.batch_size)

    @model_validator(mode="after")
    def _some_texture(self) -> Self:
        if not self.textured:
            raise ValueError(
                f"texture_dropout is {self.texture_dropout:g}; allowed with a batch of "
                f"{self.batch_size} are shares that leave one image its texture"
            )
        return self

    @model_validator(mode="after")
    def _ends_quantized(self) -> Self:
        warmup = self.codebook_life.vq_warmup_steps
        if 0 < self.steps <= warmup:
            raise ValueError(
                f"codebook_life.vq_warmup_steps is {warmup}; allowed with {self.steps} steps "
                f"are 0 to {self.steps - 1}, so that the codebook is set before the end"
            )
        return self


class Phase(Settings):
    """Steps on one set of tokens, or on a mixture of sets."""

    sets: Annotated[
        Annotated[str, Tag("str")]
        | Annotated[dict[str, MixtureWeight], Field(min_length=1), Tag("dict")],
        Discriminator(lambda given: "dict" if isinstance(given, dict) else "str"),
        Field(validation_alias=AliasChoices("sets", "set")),
    ]
    """Set of tokens, as `set: NAME`, or several with weights, as `sets: {NAME: 3, OTHER: 1}`."""
    batch_size: Positive
    """Samples in a step."""
    steps: NotNegative
    """Steps of the phase."""

    @model_validator(mode="before")
    @classmethod
    def _one_of_them(cls, given: object) -> object:
        if isinstance(given, dict) and {"set", "sets"} <= given.keys():
            raise ValueError("found both set and sets, expected one of them")
        return given

    @property
    def weights(self) -> dict[str, int]:
        """The sets, each with its part of the samples."""
        given = self.sets
        return {given: 1} if isinstance(given, str) else dict(given)

    @property
    def first_set(self) -> str:
        """The first of the sets; the crops of all have one size."""
        return next(iter(self.weights))


class PredictorTraining(StageTraining):
    """Stage 2: training of the predictor."""

    phases: Annotated[tuple[Phase, ...], Strict(False), Field(min_length=1)]
    """Phases of the training, in order."""
    loss_weights: TokenLossWeights
    """Weights of the losses."""

    @property
    def length(self) -> int:
        """Steps of all phases."""
        return sum(phase.steps for phase in self.phases)


class RapTraining(StageTraining):
    """Stage 3: reconstruction-aware prediction."""

    set: str
    """Set of pairs that is trained on."""
    batch_size: Positive
    """Pairs in a step."""
    steps: NotNegative
    """Steps of the training."""
    train_decoder: bool
    """Whether the decoder is trained with the predictor. The paper's stays frozen."""
    decoder_lr_factor: Annotated[float, Field(gt=0)]
    """Learning rate of a trained decoder over that of the predictor."""
    assignment: Assignment
    """Input of the decoder: `hard`, the entry with the highest score (the paper's); `soft`, the
    mean of all entries, weighted by the softmax of their scores."""
    image: ImageLosses
    """Weights of the image losses."""
    teacher: TeacherShares
    """Shares of the image losses that compare with the teacher's image."""
    loss_weights: TokenLossWeights
    """Weights of the stage-2 losses; 0 leaves a loss out."""

    @property
    def length(self) -> int:
        """Steps of the training."""
        return self.steps

    @model_validator(mode="after")
    def _some_image_loss(self) -> Self:
        if self.steps:
            self.image.check_reconstruction()
        return self
