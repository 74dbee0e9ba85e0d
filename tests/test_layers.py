"""Imports run one way: stages -> pipeline -> tvqrap, and within tvqrap down its layers."""

from pathlib import Path

import pytest

from tests.support.imports import PACKAGES, imported
from tests.support.paths import ROOT

PACKAGE_RANK = {"tvqrap": 0, "pipeline": 1, "stages": 2}
LAYERS = (
    "architecture",
    "runtime",
    "config",
    "images",
    "photo_io",
    "networks",
    "losses",
    "pretrained",
    "convert",
    "training",
    "objectives",
    "upscaling",
    "spandrel",
    "evaluation",
    "model_card",
    "ui",
    "comparison",
    "cost",
    "decomposition",
    "cli",
)
"""Parts of tvqrap: each imports only parts that stand before it. cli may import everything."""

FILES = sorted(file for package in PACKAGES for file in (ROOT / package).rglob("*.py"))
NAMES = [file.relative_to(ROOT).as_posix() for file in FILES]


def layer(file: Path) -> str | None:
    """The part of tvqrap that a file belongs to, None for other files."""
    parts = file.relative_to(ROOT).with_suffix("").parts
    if parts[:2] == ("tvqrap", "__main__"):
        return "cli"
    return parts[1] if parts[0] == "tvqrap" and not parts[1].startswith("__") else None


@pytest.mark.parametrize("file", FILES, ids=NAMES)
def test_a_file_imports_only_lower_layers(file: Path) -> None:
    own = layer(file)
    if own == "cli" or file.name == "__main__.py":  # `python -m tvqrap` is the command line
        return
    package = file.relative_to(ROOT).parts[0]
    for other in imported(ROOT, file):
        name = other.relative_to(ROOT)
        assert PACKAGE_RANK[name.parts[0]] <= PACKAGE_RANK[package], f"imports {name}"
        assert layer(other) != "cli", f"imports the command line, {name}"
        if own is not None and layer(other) is not None:
            assert LAYERS.index(layer(other)) <= LAYERS.index(own), f"imports {name}"


def test_every_part_has_a_layer() -> None:
    assert {layer(file) for file in FILES} - {None} == set(LAYERS)


def test_no_circles_between_files_or_folders() -> None:
    for depth in (None, 2):
        edges: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
        for file in FILES:
            if layer(file) == "cli" or file.name == "__init__.py":
                continue
            start = file.relative_to(ROOT).with_suffix("").parts[:depth]
            for other in imported(ROOT, file):
                end = other.relative_to(ROOT).with_suffix("").parts[:depth]
                if end != start:
                    edges.setdefault(start, set()).add(end)
        check_acyclic(edges)


def check_acyclic(edges: dict[tuple[str, ...], set[tuple[str, ...]]]) -> None:
    done: set[tuple[str, ...]] = set()

    def visit(node: tuple[str, ...], trail: tuple[tuple[str, ...], ...]) -> None:
        assert node not in trail, f"circle: {[*trail, node]}"
        if node not in done:
            for other in edges.get(node, ()):
                visit(other, (*trail, node))
            done.add(node)

    for node in edges:
        visit(node, ())


def test_a_circle_is_found() -> None:
    with pytest.raises(AssertionError, match="circle"):
        check_acyclic({("a",): {("b",)}, ("b",): {("a",)}})
