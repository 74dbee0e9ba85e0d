"""Commands that `pairs` and `tokens` share: inspecting and verifying sets of shards."""

import json
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tvqrap.cli.checkout import find_checkout
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable

if TYPE_CHECKING:
    from pipeline.storage.location import Location

Folder = Annotated[str, typer.Argument(help="A set, or a folder of sets; a path or a URL.")]
Full = Annotated[bool, typer.Option("--full", help="Also check hashes and decode every sample.")]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Level = Literal["quick", "full", "deep"]


@dataclass(frozen=True)
class DeepCheck:
    """The result of a check beyond hashes."""

    problems: list[str]
    said: str
    """Scope of the check, in words."""
    about: dict[str, Any]
    """The same for programs."""


def _say(line: str) -> None:
    """Prints a line that may hold names from outside."""
    typer.echo(printable(line))


def find_sets(folder: str) -> list["Location"]:
    """The folder itself if it holds a manifest, else the folders in it that do."""
    from pipeline.shards.manifest import MANIFEST, sets_in
    from pipeline.storage.location import location

    trust_params()
    found = sets_in(location(folder))
    if not found:
        raise UserError(
            f"{folder}: found no {MANIFEST}, expected a set of shards or a folder of sets"
        )
    return found


SPREAD_BYTES = 2**28
"""Shards of fewer bytes are read by this process: the start of others would take longer."""


def on_executor(path: "Location") -> dict[str, Any]:
    """Executor and workers that read all shards of a set, as arguments of a function.

    TVQRAP_EXECUTOR and TVQRAP_WORKERS choose them. Without the first, a set of `SPREAD_BYTES` is
    read by processes, a smaller one by this process.
    """
    from pipeline.shards.manifest import Manifest
    from stages.runner.executor import chosen_executor

    size = sum(row.bytes for row in Manifest.load(path).shards)
    chosen = chosen_executor("processes" if size >= SPREAD_BYTES else "serial")
    return {"executor": chosen.kind, "workers": chosen.count}


def trust_params() -> None:
    """Lets manifests name shards in the storages of the checkout's params.yaml.

    Without a valid params.yaml, shards have to lie beside their manifest.
    """
    from stages.params import PARAMS, load_params

    root = find_checkout()
    if root is not None:
        with suppress(UserError):
            load_params(root / PARAMS)


def print_json(document: Any) -> None:
    """One JSON document on standard output."""
    typer.echo(json.dumps(document, indent=1))  # ASCII: no control character of a name gets out


def inspect_sets(folder: str, as_json: bool) -> None:
    """Prints the manifests of sets of pairs or tokens."""
    found = [_described(path) for path in find_sets(folder)]
    if as_json:
        print_json(found)
        return
    for entry in found:
        _say(f"{entry['path']}: {entry['kind']}, set {entry['set']}, schema {entry['schema']}")
        _say(
            f"  samples  {entry['samples']} in {entry['shards']} shards, {entry['bytes']:,} bytes "
            f"({entry['bytes'] // max(1, entry['samples']):,} per sample)"
        )
        _say(f"  root     {entry['root']}")
        if entry["location"] != entry["path"]:
            _say(f"  stored   {entry['location']}")
        for key, value in (entry["settings"] | entry["extra"]).items():
            shown = len(value) if isinstance(value, list) else value
            _say(f"  {key.replace('_', ' '):<16} {shown}")
        for dropped in entry["extra"].get("dropped", []):
            _say(f"    {dropped['key']} ({dropped['shard']}): {dropped['reason']}")
        _say(f"  skipped  {sum(entry['skipped'].values())}")
        for reason, count in entry["skipped"].items():
            _say(f"    {count} {reason}")


def _described(path: "Location") -> dict[str, Any]:
    from pipeline.shards.manifest import Manifest

    manifest = Manifest.load(path)
    return {
        "path": str(path),
        "kind": manifest.kind,
        "set": manifest.set,
        "schema": manifest.schema,
        "samples": manifest.samples,
        "shards": len(manifest.shards),
        "bytes": sum(row.bytes for row in manifest.shards),
        "root": manifest.root,
        "location": manifest.location or str(path),
        "settings": manifest.params.get("settings", {}),
        "extra": manifest.extra,
        "skipped": manifest.skipped,
    }


def verify_sets(
    folder: str,
    level: Level,
    as_json: bool,
    deep: Callable[["Location"], DeepCheck] | None = None,
    sources: Callable[["Location"], list[str]] = lambda path: [],
) -> None:
    """Checks sets of pairs or tokens against their manifests and prints the problems.

    Exits with 1 where there are any. `quick` compares counts and sizes, `full` every hash, sample
    and member too. `deep` calls the function of that name after `full`, for sound sets. `sources`
    returns problems of shards whose sources have changed.
    """
    from pipeline.inspection.verify import verify_shards

    problems: dict[str, list[str]] = {}
    checked: dict[str, dict[str, Any]] = {}
    for path in find_sets(folder):
        executor = on_executor(path)
        found = verify_shards(path, hashes=level != "quick", **executor) + sources(path)
        more = ""
        if level == "deep" and deep is not None and not found:
            checked_deeply = deep(path)
            found = checked_deeply.problems
            checked[str(path)] = checked_deeply.about
            more = f"; {checked_deeply.said}"
        problems[str(path)] = found
        if not as_json:
            _say(f"{path}: " + (f"{len(found)} problems" if found else "sound") + more)
    sound = not any(problems.values())
    if as_json:
        document = {"level": level, "sound": sound, "problems": problems}
        print_json(document | ({"checked": checked} if level == "deep" else {}))
    else:
        for problem in (each for found in problems.values() for each in found):
            _say(f"  {problem}")
    if not sound:
        raise typer.Exit(UserError.exit_code)
