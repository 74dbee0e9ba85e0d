"""Reads and checks params.yaml.

The models are strict and hold no defaults: this module can refuse a run, but it cannot change a
result.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator

from pipeline.config import DataSettings, PairsSettings, TokensSettings
from pipeline.shards.manifest import trust_storage
from stages.profile import expanded, read_mapping, read_text
from tvqrap.architecture import SCALE, STRUCTURES, Architecture
from tvqrap.config.base import Settings
from tvqrap.config.evaluation import EvaluationSettings
from tvqrap.config.training import Compute, PredictorTraining, RapTraining, TokenizerTraining
from tvqrap.config.workers import Training, batch_sizes, grad_accum_steps, splits_into
from tvqrap.objectives.kmeans_init import check_texture_suffices
from tvqrap.runtime.errors import UsageError

PARAMS = Path("params.yaml")

RENAMED = {
    "batch": "batch_size",
    "warmup": "warmup_steps",
    "decay": "lr_schedule",
    "clip": "grad_clip_norm",
    "ema": "ema_decay",
    "accumulate": "grad_accum_steps",
    "recolour": "channel_shuffle_prob",
    "varied": "augment",
    "unquantized": "vq_warmup_steps",
    "rule": "crop_mode",
    "max_lost": "max_skipped_fraction",
}
"""Earlier names of keys, and their names now."""

MOVED = ("structure", "code", "codebook", "commitment", "small_autoencoder", "alignment")
"""Keys that stood in a stage's section and are now in its `loss_weights`."""

Model = TypeVar("Model", bound=Settings)


class Params(Settings):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Seed of training: initial weights and order of samples. `pairs` has its own seeds."""
    width: Annotated[float, Field(gt=0, le=1)]
    codebook: int
    texture: int
    structure: int | Literal["none"]
    structure_width: float | None
    swin_blocks: int
    init: str
    """Folder of models to start from: `tokenizer/`, `predictor/` and `rap/`, each optional."""
    compute: Compute
    data: DataSettings
    pairs: PairsSettings
    tokenizer: TokenizerTraining
    tokens: TokensSettings
    predictor: PredictorTraining
    rap: RapTraining
    evaluation: EvaluationSettings

    @property
    def tokenizer_architecture(self) -> Architecture:
        """The tokenizer that the top-level params describe."""
        structure = None if self.structure == "none" else self.structure
        return Architecture(
            self.width,
            self.codebook,
            self.texture,
            structure,
            structure_width=self.structure_width,
        )

    @property
    def architecture(self) -> Architecture:
        """The upscaler that the top-level params describe."""
        return replace(self.tokenizer_architecture, swin_blocks=self.swin_blocks)

    @field_validator("structure", mode="before")
    @classmethod
    def _a_number_or_none(cls, value: object) -> object:
        if value != "none" and not isinstance(value, int):
            allowed = ", ".join(str(structure) for structure in STRUCTURES)
            raise ValueError(f"found {value!r}; allowed are {allowed} and none")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        multiple = self.architecture.hr_multiple
        self._known_sets()
        for required in ("val", "test"):
            if required not in self.pairs.sets:
                raise ValueError(f"pairs.sets has no {required!r}; training and scores need it")
        wrong = [
            f"pairs.sets.{name}.size is {chosen.size}"
            for name, chosen in self.pairs.sets.items()
            if chosen.size % multiple
        ]
        if wrong:
            raise ValueError(
                f"{', '.join(wrong)}; allowed with texture {self.texture} and structure "
                f"{self.structure} are multiples of {multiple} (LR of {multiple // SCALE})"
            )
        given = self.evaluation.pad_multiple
        if given % self.architecture.lr_multiple:
            raise ValueError(
                f"evaluation.pad_multiple is {given}; allowed with texture {self.texture} and "
                f"structure {self.structure} are multiples of {self.architecture.lr_multiple}"
            )
        self._enough_for_kmeans()
        self._divisible_batches()
        self._has_teacher_images()
        return self

    def _known_sets(self) -> None:
        """Raises ValueError where a training names a set that is not there, or mixes sizes."""
        named = {"tokenizer": [self.tokenizer.set], "rap": [self.rap.set]}
        for index, phase in enumerate(self.predictor.phases):
            named[f"predictor.phases.{index}"] = list(phase.weights)
        for key, names in named.items():
            for name in names:
                if name not in self.pairs.sets:
                    raise ValueError(
                        f"{key}.set is {name!r}; allowed are the sets in pairs.sets: "
                        f"{', '.join(self.pairs.sets)}"
                    )
            sizes = {name: self.pairs.sets[name].size for name in names}
            if len(set(sizes.values())) > 1:
                found = ", ".join(f"{name} has {size}" for name, size in sizes.items())
                raise ValueError(
                    f"{key}.sets: {found} as size of its crops; allowed in one batch is one size"
                )

    def _has_teacher_images(self) -> None:
        """Raises ValueError where a stage trains on images of the teacher that its set lacks."""
        asked = {
            "tokenizer": (self.tokenizer.teacher > 0, self.tokenizer.set),
            "rap": (self.rap.teacher.any, self.rap.set),
        }
        for stage, (asks, name) in asked.items():
            target = self.pairs.sets[name].target
            if asks and target != "both":
                raise ValueError(
                    f"pairs.sets.{name}.target is {target!r}; allowed with {stage}.teacher above 0 "
                    "is both"
                )

    def _divisible_batches(self) -> None:
        """Raises ValueError where a batch cannot be split into equal microbatches."""
        for section in ("tokenizer", "predictor", "rap"):
            training: Training = getattr(self, section)
            steps, workers = grad_accum_steps(training, self.compute), training.workers or 1
            try:
                self.compute.check_workers(workers)
            except ValueError as error:
                raise ValueError(f"{section}.workers: compute.{error}") from None
            if splits_into(training, parts := steps * workers):
                continue
            for key, batch in batch_sizes(training).items():
                if batch % parts:
                    own = section if training.grad_accum_steps else "compute"
                    raise ValueError(
                        f"{section}.{key} is {batch}; allowed with {section}.workers {workers} and "
                        f"{own}.grad_accum_steps {steps} are multiples of {parts}"
                    )
            raise ValueError(
                f"tokenizer.texture_dropout is {self.tokenizer.texture_dropout:g}; allowed with a "
                f"batch of {self.tokenizer.batch_size} in {parts} parts are values that keep the "
                f"texture of {parts} images"
            )

    def _enough_for_kmeans(self) -> None:
        life = self.tokenizer.codebook_life
        if not (life.vq_warmup_steps and self.tokenizer.steps):
            return
        try:
            check_texture_suffices(
                self.codebook,
                vq_warmup_steps=life.vq_warmup_steps,
                batch=self.tokenizer.batch_size,
                crop=self.pairs.sets[self.tokenizer.set].size,
                texture=self.texture,
            )
        except ValueError as error:
            raise ValueError(f"{error}, or tokenizer.codebook_life.vq_warmup_steps 0") from None


def checked(model: type[Model], data: Mapping[str, Any], origin: str) -> Model:
    """Checks a mapping of settings. Raises `UsageError`, one line that starts with `origin`."""
    try:
        return model.model_validate(data)
    except ValidationError as error:
        raise UsageError(f"{origin}: {_first_problem(error, model)}") from None
    except ValueError as error:  # an architecture that cannot be
        raise UsageError(f"{origin}: {error}") from None


def parse_params(text: str, origin: str) -> Params:
    """Checks the text of a params file. Raises `UsageError`, one line that starts with `origin`."""
    return checked(Params, read_mapping(text, origin), origin)


def load_params(path: Path = PARAMS) -> Params:
    """Reads and checks a params file, or a profile (`stages.profile`); trusts its storages.

    params.yaml itself has to be complete, because DVC reads it too. Raises `UsageError`, one line
    that names key and value.
    """
    text = read_text(path) if path == PARAMS else expanded(path)
    params = parse_params(text, str(path))
    for storage in (params.pairs.storage, params.tokens.storage):
        trust_storage(storage)
    return params


def renamed(key: str) -> str | None:
    """The present name of a dotted key that had another one; none for a key that had not."""
    *parents, name = key.split(".")
    if name in MOVED and parents in (["tokenizer"], ["predictor"], ["rap"]):
        return ".".join((*parents, "loss_weights", name))
    return ".".join((*parents, RENAMED[name])) if name in RENAMED else None


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first fault as one line: key, value found, values allowed."""
    problems = error.errors(include_url=False)
    # A misspelt key is also missing; the line names the misspelling.
    first: Any = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"] if not _is_branch_tag(str(part)))
    message = re.sub(r"^(Value|Assertion) error, ", "", first["msg"])
    if first["type"] == "extra_forbidden":
        new = renamed(key)
        allowed = _siblings(first["loc"], model)
        text = f"{key}: " + (f"is now {new}" if new else f"unknown key; allowed are {allowed}")
    elif first["type"] == "missing":
        text = f"{key}: missing"
    elif first["type"] == "value_error":
        text = f"{key}: {message}" if key else message
    else:
        text = f"{key}: found {first['input']!r}; {message[0].lower()}{message[1:]}"
    more = len(problems) - 1
    return text + (f" (and {more} more)" if more else "")


def _is_branch_tag(part: str) -> bool:
    """Whether a part of a location is pydantic's name of a branch of a union, or of a key."""
    tags = ("int", "str", "float", "dict", "constrained-int", "[key]")
    return part in tags or part.startswith(("literal[", "function-"))


def _siblings(location: tuple[Any, ...], model: type[BaseModel]) -> str:
    """Names of the keys beside the one at `location` in `model`."""
    for part in location[:-1]:
        field = model.model_fields.get(str(part))
        if field is not None:  # else a name or number inside a mapping or list, or a branch's tag
            model = _model_within(field.annotation) or model
    return ", ".join(model.model_fields)


def _model_within(annotation: Any) -> type[BaseModel] | None:
    """The settings model that an annotation holds, itself or inside a list, mapping or union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_model_within(inner) for inner in get_args(annotation))
    return next((model for model in found if model is not None), None)
