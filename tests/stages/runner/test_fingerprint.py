"""The fingerprint of a stage follows from the content of its inputs."""

import os
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.shards.manifest import Manifest
from stages.runner.fingerprint import fingerprint_of, input_digests
from tvqrap.runtime.errors import UserError


def fingerprint(*inputs: Path) -> str:
    return fingerprint_of("sample", {}, input_digests(inputs))


def test_manifests_stand_for_their_shards(tmp_path: Path) -> None:
    folder = tmp_path / "set"
    manifest = Manifest("pairs", "set", {}, ())
    manifest.save(folder)
    before = fingerprint(tmp_path)
    (folder / "000000.tar").write_text("shard")
    assert fingerprint(tmp_path) == before
    replace(manifest, params={"seed": 2}).save(folder)
    assert fingerprint(tmp_path) != before


@pytest.mark.parametrize("text", ["{}", "[]", "not JSON", '{"photographs": 3}'])
def test_a_users_file_called_manifest_stands_for_nothing(tmp_path: Path, text: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    before = fingerprint(tmp_path)
    (tmp_path / "photo.jpg").write_text("photo")
    assert fingerprint(tmp_path) != before


def test_linked_files_count_with_their_content(tmp_path: Path) -> None:
    cached = tmp_path / "cache/0123"
    cached.parent.mkdir()
    cached.write_text("photo")
    folder = tmp_path / "photos"
    folder.mkdir()
    (folder / "a.jpg").symlink_to(cached)
    before = fingerprint(folder)
    cached.write_text("another")
    assert fingerprint(folder) != before


def test_linked_folders_outside_and_circles_are_not_followed(tmp_path: Path) -> None:
    folder = tmp_path / "photos"
    (folder / "a").mkdir(parents=True)
    (folder / "b").mkdir()
    (folder / "a/photo.jpg").write_text("photo")
    before = fingerprint(folder)
    (folder / "everything").symlink_to(tmp_path)
    (folder / "a/b").symlink_to(folder / "b")
    (folder / "b/a").symlink_to(folder / "a")
    assert fingerprint(folder) != before, "b/a/photo.jpg lies inside the folder"
    inside = fingerprint(folder)
    (tmp_path / "other").write_text("outside")
    assert fingerprint(folder) == inside


def test_pipes_and_broken_links_do_not_stop_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    os.mkfifo(tmp_path / "model.json")
    (tmp_path / "link.png").symlink_to("nowhere.png")
    assert fingerprint(tmp_path) == fingerprint(tmp_path)


def test_a_damaged_model_counts_with_its_bytes(tmp_path: Path) -> None:
    found = set()
    for text in ("[" * 100_000, "{", "[" * 100_001):
        (tmp_path / "model.json").write_text(text)
        found.add(fingerprint(tmp_path))
    assert len(found) == 3


def test_names_that_are_not_utf8_count(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"\xe9.jpg")).touch()
    before = input_digests([tmp_path])
    (tmp_path / os.fsdecode(b"\xe8.jpg")).touch()
    assert input_digests([tmp_path]) != before


def test_a_missing_input_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent: not readable: No such file"):
        fingerprint(tmp_path / "absent")
