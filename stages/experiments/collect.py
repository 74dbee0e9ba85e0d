"""Gathers the results of a recipe's runs; missing results are named."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stages.experiments.recipe import Recipe, Run
from stages.experiments.results import Keys, Result, load_result, other_inputs
from stages.experiments.seed_means import Mean, mean_over_seeds
from stages.experiments.sizes import Latent, Parameters, latent_of, parameters_of


@dataclass(frozen=True)
class Point:
    """One point of a recipe over its seeds."""

    name: str
    values: Mapping[str, Any]
    """Values of the params that any point of the recipe sets."""
    latent: Latent
    """Tokens of one image of the test set."""
    parameters: Parameters
    rows: tuple[tuple[str, int], ...]
    """(row, steps) of the tokenizers of its training, the finished one last."""
    results: Mapping[int, Result | None]
    """Results by seed; None for a run that has not finished."""

    @property
    def missing(self) -> list[int]:
        """Seeds without a result."""
        return [seed for seed, result in self.results.items() if result is None]

    def scores(self, model: str, column: str) -> dict[int, float]:
        """A score by seed, for the seeds that have it."""
        return {
            seed: result.means[model][column]
            for seed, result in self.results.items()
            if result is not None and column in result.means.get(model, {})
        }

    def mean(self, model: str, column: str) -> Mean | None:
        """Mean of a score over the seeds that have it; None where no seed has."""
        found = self.scores(model, column)
        return mean_over_seeds(list(found.values())) if found else None

    def difference(self, baseline: "Point", model: str, column: str) -> Mean | None:
        """Mean difference from the baseline's score with the same seed, over the seeds of both.

        The effect of a seed on both points cancels, so the interval is narrower.
        """
        own, other = (point.scores(model, column) for point in (self, baseline))
        found = [own[seed] - other[seed] for seed in own if seed in other]
        return mean_over_seeds(found) if found else None


@dataclass(frozen=True)
class Collection:
    """All points of a recipe."""

    recipe: Recipe
    points: tuple[Point, ...]
    inputs: tuple[str, ...]
    """Digests of the code, photographs and given weights that the results were made with: one,
    unless the points differ in the files that they read."""
    others: tuple[str, ...]
    """Digests of other inputs with which some of the points were run."""
    side: int
    """Side of an image of the test set, in pixels."""
    images: int
    """Number of images of the test set."""
    other_images: tuple[str, ...]
    """Runs that were scored on another test set than the first run with a result."""
    versions: Mapping[str, tuple[str, ...]]
    """Packages of which the runs had different versions."""


def collect(recipe: Recipe, runs: Sequence[Run], inputs: str | None = None) -> Collection:
    """Gathers the results of runs with the checkout's present inputs, or with those of a digest."""
    keys = Keys(recipe.target)
    points: dict[str, Point] = {}
    others: set[str] = set()
    found: dict[str, None] = {}
    for run in runs:
        key = keys.key(run)
        if inputs is not None:
            key = replace(key, inputs=inputs)
        found[key.inputs] = None
        others |= other_inputs(key)
        result = load_result(key, run.milestone_rows)
        side = run.params.pairs.sets["test"].size
        before = points.get(run.point)
        points[run.point] = Point(
            name=run.point,
            values={name: run.value(name) for name in recipe.varied},
            latent=latent_of(run.params.architecture, side),
            parameters=parameters_of(run.params.architecture),
            rows=(
                *zip(run.milestone_rows, run.milestones, strict=True),
                ("tokenizer", run.params.tokenizer.steps),
            ),
            results={**(before.results if before else {}), run.seed: result},
        )
    test = runs[0].params.pairs.sets["test"]
    ordered = tuple(points[name] for name in recipe.points if name in points)
    results = {
        f"{point.name} seed {seed}": result
        for point in ordered
        for seed, result in point.results.items()
        if result is not None
    }
    first = next(iter(results.values()), None)
    return Collection(
        recipe,
        ordered,
        tuple(found),
        tuple(sorted(others)),
        test.size,
        test.samples if first is None else first.images,
        tuple(name for name, each in results.items() if first and each.pairs != first.pairs),
        _different_versions(list(results.values())),
    )


def _different_versions(results: Sequence[Result]) -> dict[str, tuple[str, ...]]:
    """Packages of which results have different versions."""
    found = {}
    for name in dict.fromkeys(name for result in results for name in result.versions):
        versions = dict.fromkeys(str(result.versions.get(name)) for result in results)
        if len(versions) > 1:
            found[name] = tuple(versions)
    return found
