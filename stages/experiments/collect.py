"""The results of a recipe's runs side by side, those that are missing among them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from stages.experiments.intervals import Mean, mean_over_seeds
from stages.experiments.recipe import Recipe, Run
from stages.experiments.results import Keys, Result, load_result, other_inputs
from stages.experiments.sizes import Latent, Parameters, latent_of, parameters_of


@dataclass(frozen=True)
class Point:
    """One point of a recipe over its seeds."""

    name: str
    values: Mapping[str, Any]
    """What the recipe varies: the value of each key that any of its points sets."""
    latent: Latent
    """Of one image of the test set."""
    parameters: Parameters
    results: Mapping[int, Result | None]
    """By seed; none for a run that has not finished."""

    @property
    def missing(self) -> list[int]:
        """Seeds without a result."""
        return [seed for seed, result in self.results.items() if result is None]

    def scores(self, model: str, column: str) -> dict[int, float]:
        """A score by seed, of the seeds that have it."""
        return {
            seed: result.means[model][column]
            for seed, result in self.results.items()
            if result is not None and column in result.means.get(model, {})
        }

    def mean(self, model: str, column: str) -> Mean | None:
        """A score over the seeds that have it; none where no seed has."""
        found = self.scores(model, column)
        return mean_over_seeds(list(found.values())) if found else None

    def difference(self, baseline: "Point", model: str, column: str) -> Mean | None:
        """A score less the other point's with the same seed, over the seeds that both have.

        What a seed does to both goes out of it, so that its interval is the narrower one.
        """
        ours, theirs = (point.scores(model, column) for point in (self, baseline))
        found = [ours[seed] - theirs[seed] for seed in ours if seed in theirs]
        return mean_over_seeds(found) if found else None


@dataclass(frozen=True)
class Collection:
    """All points of a recipe."""

    recipe: Recipe
    points: tuple[Point, ...]
    inputs: str
    """Digest of the code, photographs and given weights that the results were made with."""
    others: tuple[str, ...]
    """Digests of other inputs with which some of the points were run."""
    side: int
    """Of an image of the test set, in pixels."""
    images: int
    """Images of the test set."""


def collect(recipe: Recipe, runs: Sequence[Run], inputs: str | None = None) -> Collection:
    """Gathers the results of runs, made with the checkout's present inputs or those of a digest."""
    keys = Keys(recipe.target)
    points: dict[str, Point] = {}
    others: set[str] = set()
    found = ""
    for run in runs:
        key = keys.key(run)
        if inputs is not None:
            key = replace(key, inputs=inputs)
        found = key.inputs
        others |= other_inputs(key)
        result = load_result(key)
        side = run.params.pairs.sets["test"].size
        before = points.get(run.point)
        points[run.point] = Point(
            name=run.point,
            values={name: run.value(name) for name in recipe.varied},
            latent=latent_of(run.params.architecture, side),
            parameters=parameters_of(run.params.architecture),
            results={**(before.results if before else {}), run.seed: result},
        )
    test = runs[0].params.pairs.sets["test"]
    ordered = tuple(points[name] for name in recipe.points if name in points)
    return Collection(recipe, ordered, found, tuple(sorted(others)), test.size, test.count)
