"""Profiles hold what differs from laptop.yaml, and are complete once expanded."""

from pathlib import Path
from typing import Any

import pytest

from stages.params import load_params
from stages.profile import expanded, profile_names, profile_path, read_mapping
from tests.support.paths import ROOT
from tvqrap.runtime.errors import UsageError

LAPTOP = (ROOT / "stages/profiles/laptop.yaml").read_text()
OVERLAYS = [name for name in profile_names(ROOT) if name != "laptop"]

COMPLETE = """\
# the base

# first
a: 1
b:
  # a list
  c:
  - 1
  - 2
  # after the list
  d: 0.5  # half
sets:
  train:
    size: 64
  val:
    size: 64
"""


def values(text: str) -> dict[str, Any]:
    return read_mapping(text, "test")


def with_base(folder: Path, overlay: str) -> Path:
    """An overlay beside the file base.yaml."""
    (folder / "base.yaml").write_text(COMPLETE)
    path = folder / "mine.yaml"
    path.write_text(overlay)
    return path


def test_laptop_is_complete_and_stays_as_it_is() -> None:
    assert expanded(profile_path("laptop", ROOT)) == LAPTOP


@pytest.mark.parametrize("name", OVERLAYS)
def test_a_profile_holds_only_what_differs(name: str) -> None:
    def check(changes: dict[str, Any], base: dict[str, Any], key: str) -> None:
        for part, value in changes.items():
            if isinstance(base.get(part), dict) and isinstance(value, dict):
                check(value, base[part], f"{key}.{part}")
            elif part in base:
                assert value != base[part], f"{key}.{part} is that of laptop.yaml"

    changes = values(profile_path(name, ROOT).read_text())
    assert changes.pop("base") == "laptop.yaml"
    check(changes, values(LAPTOP), name)


@pytest.mark.parametrize("name", OVERLAYS)
def test_an_expanded_profile_has_all_of_laptops_comments(name: str) -> None:
    text = expanded(profile_path(name, ROOT)).splitlines()
    assert text[0].startswith(f'# The profile "{name}"')
    body = LAPTOP[LAPTOP.index("\n\n") :]
    comments = [line for line in body.splitlines() if line.strip().startswith("#")]
    assert [line for line in comments if line not in text] == []


def test_values_replace_those_of_the_base_and_comments_stay(tmp_path: Path) -> None:
    overlay = "# mine\n\nbase: base.yaml\n\nb:\n  # not copied\n  c: [3]\n  d:\n"
    text = expanded(with_base(tmp_path, overlay))
    assert text.startswith("# mine\n\n# first\na: 1\n")
    assert values(text)["b"] == {"c": [3], "d": None}
    for comment in ("# a list", "# after the list", "# half"):
        assert comment in text
    assert "# the base" not in text and "# not copied" not in text


def test_a_new_key_follows_the_one_before_it(tmp_path: Path) -> None:
    overlay = "base: base.yaml\nsets:\n  train: {size: 32}\n  more: {size: 16}\n"
    sets = values(expanded(with_base(tmp_path, overlay)))["sets"]
    assert list(sets.items()) == [
        ("train", {"size": 32}),
        ("more", {"size": 16}),
        ("val", {"size": 64}),
    ]


@pytest.mark.parametrize(
    ("overlay", "words"),
    [
        ("base: absent.yaml\n", "absent.yaml: not found"),
        ("base: 3\n", "mine.yaml: base: found 3, expected the name of a file"),
        ("base: [\n", "mine.yaml: line 2: not readable as YAML"),
    ],
)
def test_what_cannot_be_expanded_is_one_line(tmp_path: Path, overlay: str, words: str) -> None:
    with pytest.raises(UsageError) as caught:
        expanded(with_base(tmp_path, overlay))
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_an_unknown_profile_is_one_line() -> None:
    with pytest.raises(UsageError, match="profile 'papre' is not known, expected one of ablation"):
        profile_path("papre", ROOT)


def test_a_wrong_key_of_a_profile_is_named_with_its_file(tmp_path: Path) -> None:
    (tmp_path / "laptop.yaml").write_text(LAPTOP)
    path = tmp_path / "mine.yaml"
    path.write_text("base: laptop.yaml\nrap:\n  stepz: 3\n")
    with pytest.raises(
        UsageError, match=r"mine\.yaml: rap\.stepz: unknown key; allowed are .*, set,"
    ):
        load_params(path)


def test_params_yaml_itself_must_be_complete(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC reads it too, and does not know profiles."""
    monkeypatch.chdir(tmp_path)
    Path("laptop.yaml").write_text(LAPTOP)
    Path("params.yaml").write_text("base: laptop.yaml\nseed: 2\n")
    with pytest.raises(UsageError, match=r"params\.yaml: base: unknown key"):
        load_params()
