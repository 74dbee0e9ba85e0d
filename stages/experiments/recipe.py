"""Recipes: the points of a figure or table of the paper, and the scores that are shown of them.

A recipe is a YAML file in `recipes/` or elsewhere. Each of its points sets a few params of a
profile, as `dvc exp run -S key=value` does.
"""

import io
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, Strict, model_validator
from ruamel.yaml import YAML

from pipeline.config import Name
from stages.params import Params, checked, renamed
from stages.profile import expanded, profile_path, read_mapping
from tvqrap.config.base import Settings
from tvqrap.runtime.errors import UsageError

FOLDER = Path("stages/experiments/recipes")
MOST_SEEDS = 10
KEEP_EVERY = "tokenizer.monitoring.keep_every"

Target = Literal["train_tokenizer", "evaluate"]
Row = Literal["bicubic", "tokenizer", "predictor", "rap"]
Names = Annotated[tuple[str, ...], Strict(False), Field(min_length=1)]


class Chart(Settings):
    """A chart of scores against a param that the points vary, and against bytes of tokens."""

    x: str
    """Key of the param along the axis, whose scale is logarithmic to base 2."""
    scores: Names
    """Columns of scores, one panel each."""
    lines: Annotated[dict[str, Names], Field(min_length=1)]
    """Points of each line, by the title of the line."""


class Recipe(Settings):
    """One figure or table of the paper."""

    title: str
    paper: str
    """Its name in the paper."""
    profile: str
    """Name of the profile (stages/profiles) that the points change."""
    target: Target
    """`train_tokenizer`: only tokenizers are trained, and their reconstruction of the test set is
    scored. `evaluate`: all stages run."""
    seeds: Annotated[
        tuple[Annotated[int, Field(ge=0)], ...],
        Strict(False),
        Field(min_length=1, max_length=MOST_SEEDS),
    ]
    """Training seeds: each point is run with each of them."""
    points: Annotated[dict[Name, dict[str, Any]], Field(min_length=1)]
    """The params that each point sets, by name of the point and dotted key."""
    models: Annotated[tuple[Row, ...], Strict(False), Field(min_length=1)]
    """Models whose scores are shown of each point."""
    scores: Names
    """Columns of scores that are shown."""
    milestones: Annotated[int, Field(ge=1, le=20)] = 1
    """Equal parts of a training after each of which its tokenizer is scored (the iterations of
    Figure 6). 1: the finished tokenizer alone. Sets tokenizer.monitoring.keep_every, so that the
    training keeps its checkpoints."""
    baseline: Name | None = None
    """A point that the others are compared with, seed by seed."""
    chart: Chart | None = None

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        from stages.experiments.columns import COLUMNS, SHARE  # brings torch

        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: found {list(self.seeds)}, expected each of them once")
        if self.target == "train_tokenizer" and self.models != ("tokenizer",):
            raise ValueError(
                f"models: found {', '.join(self.models)}; allowed with the target train_tokenizer "
                "is tokenizer"
            )
        if self.target == "evaluate" and self.milestones > 1:
            raise ValueError(
                f"milestones: found {self.milestones}; allowed with the target evaluate is 1 "
                "(tokenizers alone are scored on the way)"
            )
        if self.target == "evaluate" and SHARE in self.scores:
            raise ValueError(f"scores: {SHARE} is allowed with the target train_tokenizer alone")
        for key, columns in (
            ("scores", self.scores),
            ("chart.scores", self.chart.scores if self.chart else ()),
        ):
            for column in columns:
                if column not in COLUMNS:
                    raise ValueError(f"{key}: found {column!r}; allowed are {', '.join(COLUMNS)}")
        for name, overrides in self.points.items():
            if self.milestones > 1 and KEEP_EVERY in overrides:
                raise ValueError(f"points.{name}.{KEEP_EVERY}: milestones sets it")
            if "seed" in overrides:
                raise ValueError(f"points.{name}.seed: the seeds are listed under seeds")
        if self.baseline is not None and self.baseline not in self.points:
            raise ValueError(
                f"baseline: found {self.baseline!r}; allowed are the points: "
                f"{', '.join(self.points)}"
            )
        if self.chart is not None and self.chart.x not in self.varied:
            raise ValueError(
                f"chart.x: found {self.chart.x!r}; allowed are the keys of the points: "
                f"{', '.join(self.varied)}"
            )
        for line, names in self.chart.lines.items() if self.chart else ():
            for name in names:
                if name not in self.points:
                    raise ValueError(
                        f"chart.lines.{line}: found {name!r}; allowed are the points: "
                        f"{', '.join(self.points)}"
                    )
                place = self.points[name].get(self.chart.x, 1) if self.chart else 1
                if not isinstance(place, int | float) or place <= 0:
                    raise ValueError(
                        f"chart.lines.{line}: {name} is at {place!r}, expected a number above 0"
                    )
        return self

    @property
    def varied(self) -> tuple[str, ...]:
        """Keys that any point sets, in the order of their first appearance."""
        return tuple(dict.fromkeys(key for point in self.points.values() for key in point))


@dataclass(frozen=True)
class Run:
    """One point with one seed."""

    point: str
    seed: int
    values: Mapping[str, Any]
    """All of its params, as in YAML."""
    params: Params
    milestones: tuple[int, ...] = ()
    """Steps on the way after which its tokenizer is scored too."""

    @property
    def milestone_rows(self) -> tuple[str, ...]:
        """Rows of these tokenizers."""
        return tuple(milestone_row(step) for step in self.milestones)

    @property
    def text(self) -> str:
        """The text of its params.yaml."""
        stream = io.StringIO()
        yaml = YAML(typ="safe", pure=True)
        yaml.default_flow_style = False
        yaml.dump(dict(self.values), stream)
        return stream.getvalue()

    def value(self, key: str) -> Any:
        """The value of a dotted key of its params."""
        return _holder(self.values, key)[key.rsplit(".", 1)[-1]]


def milestone_row(step: int) -> str:
    """The row of a tokenizer after `step` steps of its training."""
    return f"tokenizer-{step}"


def recipe_names() -> list[str]:
    """Names of the recipes of the checkout in the working directory."""
    return [path.stem for path in sorted(FOLDER.glob("*.yaml"))]


def load_recipe(given: str, profile: str | None = None) -> tuple[str, Recipe]:
    """(name, recipe) for the name of a recipe or a YAML file, with another profile where given.

    Raises `UsageError`, one line.
    """
    path = Path(given) if given.endswith(".yaml") else FOLDER / f"{given}.yaml"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise UsageError(
            f"recipe {given!r} is not known, expected one of {', '.join(recipe_names())} or a file "
            "that ends in .yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not readable: {error}") from None
    values = read_mapping(text, str(path)) | ({} if profile is None else {"profile": profile})
    return path.stem, checked(Recipe, values, str(path))


def runs_of(
    recipe: Recipe,
    origin: str,
    *,
    points: Sequence[str] = (),
    seeds: int | None = None,
    photos: Path | None = None,
) -> list[Run]:
    """The recipe's runs, all points of a seed before the next seed.

    `points` selects points and `seeds` the number of seeds; without them all are run. `photos`
    replaces the profile's folder of photographs. The params of every run are checked. Raises
    `UsageError`, one line that names point and key.
    """
    for name in points:
        if name not in recipe.points:
            raise UsageError(
                f"--points: {name!r} is not among the points of {origin}: "
                f"{', '.join(recipe.points)}"
            )
    if seeds is not None and not 1 <= seeds <= len(recipe.seeds):
        raise UsageError(f"--seeds is {seeds}; allowed with {origin} are 1 to {len(recipe.seeds)}")
    try:
        profile = profile_path(recipe.profile)
    except UsageError as error:
        raise UsageError(f"{origin}: {error}") from None
    base = read_mapping(expanded(profile), str(profile))
    if photos is not None:
        if not photos.is_dir():
            raise UsageError(f"--photos: found {photos}, expected a folder of photographs")
        base["data"]["photos"] = str(photos)
        base["data"]["licences"] = None  # a table of other photographs
    return [
        _run(name, seed, recipe.milestones, overrides, base, f"{origin}: points.{name}")
        for seed in recipe.seeds[:seeds]
        for name, overrides in recipe.points.items()
        if not points or name in points
    ]


def _run(
    name: str,
    seed: int,
    milestones: int,
    overrides: Mapping[str, Any],
    base: Mapping[str, Any],
    origin: str,
) -> Run:
    values = deepcopy(dict(base))
    for key, value in {**overrides, "seed": seed}.items():
        try:
            _holder(values, key)[key.rsplit(".", 1)[-1]] = deepcopy(value)
        except KeyError:
            expected = renamed(key) or "one such as codebook or rap.steps"
            raise UsageError(
                f"{origin}: {key} is no key of the profile, expected {expected}"
            ) from None
    params = checked(Params, values, origin)
    if milestones == 1:
        return Run(name, seed, values, params)
    steps = params.tokenizer.steps
    between, rest = divmod(steps, milestones)
    if rest:
        raise UsageError(
            f"{origin}: tokenizer.steps is {steps}, expected a multiple of milestones, {milestones}"
        )
    start = params.tokenizer.codebook_life.vq_warmup_steps
    if between <= start:
        raise UsageError(
            f"{origin}: the first of {milestones} milestones is after {between} steps, expected "
            f"more than tokenizer.codebook_life.vq_warmup_steps, {start}: there is no codebook yet"
        )
    values["tokenizer"]["monitoring"]["keep_every"] = between
    passed = tuple(range(between, steps, between))
    return Run(name, seed, values, checked(Params, values, origin), passed)


def _holder(values: Mapping[str, Any], key: str) -> Any:
    """The mapping that holds the last part of a dotted key. Raises KeyError where none does."""
    *parents, last = key.split(".")
    place: Any = values
    for part in parents:
        if not isinstance(place, Mapping):
            raise KeyError(key)
        place = place[part]
    if not isinstance(place, Mapping) or last not in place:
        raise KeyError(key)
    return place
