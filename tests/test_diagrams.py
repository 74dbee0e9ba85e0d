"""The diagrams of the documents: their nodes are declared, their paths exist, the data flow is
that of dvc.yaml.
"""

import re
from itertools import pairwise

import pytest
from ruamel.yaml import YAML

from tests.support.paths import ROOT

STAGES = YAML(typ="safe", pure=True).load(ROOT / "dvc.yaml")["stages"]
DIAGRAMS = [
    diagram
    for page in sorted((ROOT / "docs").glob("*.md"))
    for diagram in re.findall(r"^```mermaid\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
]
NODE = re.compile(r"\b(\w+)[\[(]+\"([^\"]*)\"[\])]+")
"""A node's name, and its text in brackets."""


def nodes(diagram: str) -> dict[str, str]:
    return dict(NODE.findall(diagram))


def edges(diagram: str) -> set[tuple[str, str]]:
    found = set()
    for line in NODE.sub(r"\1", diagram).splitlines():
        chain = re.split(r"\s*-->(?:\|[^|]*\|)?\s*", line.strip())
        found |= set(pairwise(chain))
    return found


def paths(text: str) -> list[str]:
    return re.findall(r"\b(?:data|models|pipeline|stages|tvqrap)/[\w/.]*", text)


def folder(path: str) -> str:
    """The part of a dependency or an output that the diagram shows."""
    path = path.replace("${data.photos}", "data/photos")
    depth = 1 if path.startswith("evaluation/") else 2
    return "/".join(path.split("/")[:depth])


def test_there_are_diagrams() -> None:
    assert len(DIAGRAMS) == 2
    assert all(edges(diagram) for diagram in DIAGRAMS)


@pytest.mark.parametrize("diagram", DIAGRAMS)
def test_nodes_are_declared_and_paths_exist(diagram: str) -> None:
    declared = nodes(diagram)
    joined = {node for edge in edges(diagram) for node in edge}
    assert joined == set(declared)
    for text in declared.values():
        for path in paths(text):
            made = [out for stage in STAGES.values() for out in stage["outs"]]
            assert path in made or (ROOT / path).exists(), path


def test_the_data_flow_is_that_of_dvc() -> None:
    (diagram,) = (each for each in DIAGRAMS if "make_pairs" in each)
    shown = nodes(diagram)
    drawn = edges(diagram)
    data = {name: text.split("<br/>")[0].rstrip("/") for name, text in shown.items()}
    for stage, entry in STAGES.items():
        code = ("${init}", "${pairs.teacher}", "pipeline/", "stages/", "tvqrap/")
        read = {folder(dep) for dep in entry["deps"] if not dep.startswith(code)}
        assert {data[start] for start, end in drawn if end == stage} == read, stage
        written = {folder(out) for out in entry["outs"] if not out.startswith("curves/")}
        assert {data[end] for start, end in drawn if start == stage} == written, stage
