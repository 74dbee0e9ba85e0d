"""params.yaml: every knob of the pipeline, typed and checked.

The models are strict and hold no defaults, so this module can refuse a run but never shape one.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_args

from pydantic import BaseModel, Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from pipeline.config import DataSettings, PairsSettings, TokensSettings
from tvqrap.architecture import SCALE, STRUCTURES, Architecture
from tvqrap.config.base import Settings
from tvqrap.config.evaluation import EvaluationSettings
from tvqrap.config.training import Compute, PredictorTraining, RapTraining, TokenizerTraining
from tvqrap.objectives.kmeans_init import check_texture_suffices
from tvqrap.runtime.errors import UsageError

PARAMS = Path("params.yaml")
Model = TypeVar("Model", bound=Settings)


class Params(Settings):
    """All of params.yaml."""

    seed: Annotated[int, Field(ge=0)]
    """Of training: first weights and order of samples. Data has its own seeds."""
    width: Annotated[float, Field(gt=0, le=1)]
    codebook: int
    texture: int
    structure: int | Literal["none"]
    init: str
    """Folder of models to start from (`tokenizer/`, `predictor/`), each optional."""
    compute: Compute
    data: DataSettings
    pairs: PairsSettings
    tokenizer: TokenizerTraining
    tokens: TokensSettings
    predictor: PredictorTraining
    rap: RapTraining
    evaluation: EvaluationSettings

    @property
    def architecture(self) -> Architecture:
        """The network that the top-level knobs describe."""
        structure = None if self.structure == "none" else self.structure
        return Architecture(self.width, self.codebook, self.texture, structure)

    @field_validator("structure", mode="before")
    @classmethod
    def _a_number_or_none(cls, value: object) -> object:
        if value != "none" and not isinstance(value, int):
            allowed = ", ".join(str(structure) for structure in STRUCTURES)
            raise ValueError(f"found {value!r}; allowed are {allowed} and none")
        return value

    @model_validator(mode="after")
    def _possible(self) -> Self:
        multiple = self.architecture.hr_multiple
        named = {
            "tokenizer.set": self.tokenizer.set,
            "rap.set": self.rap.set,
            **{
                f"predictor.phases.{index}.set": phase.set
                for index, phase in enumerate(self.predictor.phases)
            },
        }
        for key, name in named.items():
            if name not in self.pairs.sets:
                raise ValueError(
                    f"{key} is {name!r}; allowed are the sets in pairs.sets: "
                    f"{', '.join(self.pairs.sets)}"
                )
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
        self._dealt_out()
        self._taught()
        return self

    def _taught(self) -> None:
        """Raises ValueError where a training asks for teacher's images that its set has not."""
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

    def _dealt_out(self) -> None:
        """Raises ValueError where a batch cannot be dealt out in equal parts."""
        parts = self.compute.workers * self.compute.grad_accum_steps
        batches = {
            "tokenizer.batch_size": self.tokenizer.batch_size,
            "rap.batch_size": self.rap.batch_size,
            **{
                f"predictor.phases.{index}.batch_size": phase.batch_size
                for index, phase in enumerate(self.predictor.phases)
            },
        }
        for key, batch in batches.items():
            if batch % parts:
                raise ValueError(
                    f"{key} is {batch}; allowed with compute.workers {self.compute.workers} and "
                    f"compute.grad_accum_steps {self.compute.grad_accum_steps} are multiples of "
                    f"{parts}"
                )
        batch = self.tokenizer.batch_size
        textured = batch - round(self.tokenizer.texture_dropout * batch)
        if textured < parts:
            raise ValueError(
                f"tokenizer.texture_dropout is {self.tokenizer.texture_dropout:g}; allowed with a "
                f"batch of {batch} in {parts} parts is what leaves {parts} images their texture"
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


def read_mapping(text: str, origin: str) -> dict[str, Any]:
    """The mapping that a YAML text holds. Raises `UsageError`, a line that starts with `origin`."""
    try:
        data = YAML(typ="safe", pure=True).load(text)
    except (YAMLError, ValueError) as error:  # the latter for a date that does not exist
        mark = getattr(error, "problem_mark", None)
        where = f"line {mark.line + 1}: " if mark else ""
        problem = getattr(error, "problem", None) or str(error)
        raise UsageError(f"{origin}: {where}not readable as YAML: {problem}") from None
    if not isinstance(data, dict):
        raise UsageError(f"{origin}: holds no keys; expected a mapping of keys to values")
    return data


def checked(model: type[Model], data: Mapping[str, Any], origin: str) -> Model:
    """Settings of what a mapping holds. Raises `UsageError`, a line that starts with `origin`."""
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
    """Reads and checks a params file. Raises `UsageError`, one line naming key and value."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(f"{path}: not found; expected in the checkout's top folder") from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable: {error}") from None
    return parse_params(text, str(path))


def _first_problem(error: ValidationError, model: type[BaseModel]) -> str:
    """The first complaint as one line: key, what was found, what is allowed."""
    problems = error.errors(include_url=False)
    # A misspelt key is also a missing one: the misspelling is the one to name.
    first: Any = min(problems, key=lambda problem: problem["type"] != "extra_forbidden")
    key = ".".join(str(part) for part in first["loc"] if not _is_branch_tag(str(part)))
    message = re.sub(r"^(Value|Assertion) error, ", "", first["msg"])
    if first["type"] == "extra_forbidden":
        text = f"{key}: unknown key; allowed are {_siblings(first['loc'], model)}"
    elif first["type"] == "missing":
        text = f"{key}: missing"
    elif first["type"] == "value_error":
        text = f"{key}: {message}" if key else message
    else:
        text = f"{key}: found {first['input']!r}; {message[0].lower()}{message[1:]}"
    more = len(problems) - 1
    return text + (f" (and {more} more)" if more else "")


def _is_branch_tag(part: str) -> bool:
    """Whether a part of a location is pydantic's name of a union's branch, not a key."""
    return part in ("int", "str", "float", "dict") or part.startswith(("literal[", "function-"))


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
