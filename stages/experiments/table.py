"""A recipe's results as a Markdown table."""

from collections.abc import Sequence

from stages.experiments.collect import Collection, Point
from stages.experiments.columns import COLUMNS
from stages.experiments.seed_means import T_95, Mean
from tvqrap.runtime.errors import UserError

MISSING = "missing"
NO_SCORE = "–"
_MOST_KEYS = 4
"""Params that have a column each; more of them leave no room for the scores."""


def markdown_table(collection: Collection, given: str) -> str:
    """The table, a note on its numbers, and the differences from the baseline.

    A score is `missing` where its run has not finished, and a dash where the model has no such
    score. `given` is the recipe with the options of `collect`.
    """
    recipe = collection.recipe
    many = len(recipe.models) > 1
    all_stages = recipe.target == "evaluate"
    keys = recipe.varied if len(recipe.varied) <= _MOST_KEYS else ()
    head = ["point", *(f"`{key}`" for key in keys)]
    head += ["codes, bytes (stored)", "structure, bytes", "tokenizer, parameters"]
    head += ["upscaler, parameters"] if all_stages else []
    head += ["image of"] if many else []
    head += [_title(column) for column in recipe.scores]
    lines = [head, ["---"] * len(head)]
    for point in collection.points:
        first = [point.name, *(str(point.values[key]) for key in keys)]
        first += [
            f"{point.latent.packed_bytes} ({point.latent.code_bytes})",
            str(point.latent.structure_bytes),
            _thousands(point.parameters.tokenizer),
        ]
        first += [_thousands(point.parameters.upscaler)] if all_stages else []
        for model in recipe.models:
            scores = [_score(point, model, column) for column in recipe.scores]
            lines.append([*first, *([model] if many else []), *scores])
            first = [""] * len(first)
    parts = [_rows(lines), _note(collection, given), *_on_the_way(collection)]
    parts += _differences(collection)
    return "\n\n".join(parts) + "\n"


def _rows(lines: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _on_the_way(collection: Collection) -> list[str]:
    """The scores of each point's milestones: a sentence and a table, or nothing."""
    recipe = collection.recipe
    if recipe.milestones == 1:
        return []
    head = ["point", "steps", *(_title(name) for name in recipe.scores)]
    lines = [head, ["---"] * len(head)]
    for point in collection.points:
        name = point.name
        for row, steps in point.rows:
            scores = [_score(point, row, column) for column in recipe.scores]
            lines.append([name, str(steps), *scores])
            name = ""
    return ["On the way of each training:", _rows(lines)]


def _differences(collection: Collection) -> list[str]:
    """The differences of the points from the recipe's baseline: a sentence and a table."""
    recipe = collection.recipe
    baseline = next((point for point in collection.points if point.name == recipe.baseline), None)
    if baseline is None:
        return []
    many = len(recipe.models) > 1
    head = ["point", *(["image of"] if many else []), *(_title(name) for name in recipe.scores)]
    lines = [head, ["---"] * len(head)]
    for point in collection.points:
        if point is baseline:
            continue
        name = point.name
        for model in recipe.models:
            scores = [
                _shown(point.difference(baseline, model, column), column, "+")
                if not _without(point, model, column)
                else NO_SCORE
                for column in recipe.scores
            ]
            lines.append([name, *([model] if many else []), *scores])
            name = ""
    sentence = (
        f"Difference from `{baseline.name}`, paired by seed (mean ± half of the 95 % t-interval; "
        "significant where the interval excludes 0):"
    )
    return [sentence, _rows(lines)]


def _title(column: str) -> str:
    arrow = {"higher": " ↑", "lower": " ↓", None: ""}[COLUMNS[column].better]
    return COLUMNS[column].title + arrow


def _thousands(count: int) -> str:
    return f"{count:,}".replace(",", " ")


def _score(point: Point, model: str, column: str) -> str:
    if _without(point, model, column):
        return NO_SCORE
    return _shown(point.mean(model, column), column)


def _without(point: Point, model: str, column: str) -> bool:
    """Whether finished runs lack a score, as a tokenizer lacks code accuracy."""
    finished = any(result is not None for result in point.results.values())
    return finished and not point.scores(model, column)


def _shown(mean: Mean | None, column: str, sign: str = "") -> str:
    if mean is None:
        return MISSING
    digits = COLUMNS[column].digits
    half = "" if mean.half is None else f" ± {mean.half:.{digits}f}"
    return f"{mean.value:{sign}.{digits}f}{half}"


def _note(collection: Collection, given: str) -> str:
    recipe = collection.recipe
    seeds = [seed for point in collection.points for seed in point.results]
    count = len(set(seeds))
    interval = "one training seed, no interval"
    if count > 1:
        used = f"t = {T_95[count - 2]} for {count}"
        if any(point.missing for point in collection.points):
            used = "those with a result; none for a single one"
        interval = f"mean ± half of the 95 % t-interval over training seeds ({used})"
    same = "" if collection.other_images else "the same "
    sentences = [
        f"{recipe.paper} of the paper in the profile `{recipe.profile}`; the paper's own numbers "
        "are of another network, data set and schedule and are not repeated.",
        f"Scores: {interval} on {same}{collection.images} test images of {collection.side}x"
        f"{collection.side} pixels; the interval says nothing of other photographs.",
        "Bytes are of one such image: codes at log2 of the codebook, rounded up to whole bits (in "
        "brackets: as stored, two bytes each); structure in float16.",
        ""
        if len(recipe.varied) <= _MOST_KEYS
        else f"The points differ in {len(recipe.varied)} params, which the recipe lists.",
        _missing(collection),
        *_mixed(collection),
        f"Made by `python -m stages.experiments collect {given}` from runs with the inputs "
        f"{' and '.join(f'`{digest}`' for digest in collection.inputs)}.",
    ]
    return " ".join(sentence for sentence in sentences if sentence)


def _missing(collection: Collection) -> str:
    total = sum(len(point.results) for point in collection.points)
    missing = [
        f"{point.name} (seed{'s' if len(point.missing) > 1 else ''} "
        f"{', '.join(str(seed) for seed in point.missing)})"
        for point in collection.points
        if point.missing
    ]
    if not missing:
        return ""
    count = sum(len(point.missing) for point in collection.points)
    return f"**{count} of {total} runs are missing**: {', '.join(missing)}."


def _mixed(collection: Collection) -> list[str]:
    """A sentence for each difference between the runs that no param explains."""
    sentences = []
    if collection.other_images:
        sentences.append(
            f"**Scored on other test images than the first run**: "
            f"{', '.join(collection.other_images)}."
        )
    for name, versions in collection.versions.items():
        sentences.append(f"**Runs with different versions of {name}**: {', '.join(versions)}.")
    return sentences


def filled(page: str, name: str, content: Sequence[str], origin: str) -> str:
    """A page in which `content` replaces the text between the two marks of a recipe.

    The marks are the lines `<!-- NAME: begin -->` and `<!-- NAME: end -->`. Raises `UserError`
    where one of them is missing.
    """
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->\n"
    if page.count(begin) != 1 or page.count(end) != 1 or page.index(begin) > page.index(end):
        raise UserError(
            f"{origin}: expected the lines {begin.strip()} and {end.strip()}, once each and in "
            "this order, between which the table belongs"
        )
    before, rest = page.split(begin)
    after = rest.split(end)[1]
    return before + begin + "\n" + "\n".join(content) + "\n" + end + after
