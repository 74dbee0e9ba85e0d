"""What code and documents cite: sections of the paper, tests of promises."""

import re

from tests.support.paths import ROOT

SECTIONS = {"3.1", "3.2", "4.1", "4.2", "4.3"}
CITED = re.compile(r"[Pp]aper,?\s+(?:in\s+)?[Ss]ections?\s+([\d.]*\d)")


def test_sections_of_the_paper_exist() -> None:
    found = set()
    for folder in ("pipeline", "stages", "tvqrap", "docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.suffix in (".py", ".md"):
                cited = set(CITED.findall(path.read_text(encoding="utf-8")))
                assert cited <= SECTIONS, (path, cited - SECTIONS)
                found |= cited
    assert found >= {"3.1", "3.2"}


def test_every_promise_names_a_test() -> None:
    text = (ROOT / "docs/reliability.md").read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("| ")]
    promises = [(promise, tests) for promise, tests in rows if promise.strip() != "promise"]
    assert len(promises) > 25
    for promise, tests in promises:
        named = re.findall(r"`(tests/[\w/]+\.py)`", tests)
        assert named or tests.strip() == "the same", promise
        for path in named:
            assert (ROOT / path).is_file(), path
            assert path.startswith("tests/support/") or "def test_" in (ROOT / path).read_text()
