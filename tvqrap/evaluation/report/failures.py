"""Failures as lines: one for each model, image and reason, for all metrics together."""

from collections.abc import Sequence

from tvqrap.evaluation.summary import Failure

_NAMED = 3
"""More metrics than this are counted instead of named."""


def failure_lines(failures: Sequence[Failure], limit: int, where: str) -> list[str]:
    """At most `limit` lines, and one that counts the rest and names the file `where` they are."""
    groups: dict[tuple[str, str, str], list[str]] = {}
    for failure in failures:
        key = (failure.model, failure.image or "the whole set", failure.reason)
        groups.setdefault(key, []).append(failure.metric)
    lines = []
    for (model, image, reason), metrics in list(groups.items())[:limit]:
        lost = ", ".join(metrics) if len(metrics) <= _NAMED else f"{len(metrics)} metrics"
        lines.append(f"{model}: {image}: {reason} ({lost})")
    rest = len(groups) - limit
    return [*lines, f"and {rest} more, in {where}"] if rest > 0 else lines
