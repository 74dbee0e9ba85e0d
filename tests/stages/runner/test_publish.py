"""Finished work is published whole, on the same file system or another one."""

import errno
import os
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.inspection.verify import verify_shards
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, write_shard
from pipeline.storage.location import Url
from stages.runner.publish import publish, publish_sets
from tvqrap.runtime.errors import UserError

OUT = Path("data/pairs")


@pytest.fixture
def sets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Two finished sets of two shards in a scratch folder; the working directory is a checkout."""
    monkeypatch.chdir(tmp_path)
    folders = [Path("scratch") / name for name in ("train", "test")]
    for folder in folders:
        folder.mkdir(parents=True)
        rows = [
            write_shard(folder / f"00000{n}.tar", [Sample(f"{n}", {"json": b"{}"})]) for n in (0, 1)
        ]
        Manifest("pairs", folder.name, {}, tuple(rows)).save(folder)
    return folders


@pytest.fixture
def other_file_system(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", refused)
    monkeypatch.setattr(Path, "hardlink_to", refused)


def check_sound() -> None:
    assert sorted(path.name for path in OUT.iterdir()) == ["sets.json", "test", "train"]
    for name in ("train", "test"):
        assert verify_shards(OUT / name, hashes=True) == []
    assert [path.name for path in OUT.parent.iterdir()] == ["pairs"]


def test_files_and_folders_replace_what_was_there(sets: list[Path]) -> None:
    OUT.mkdir(parents=True)
    (OUT / "old").touch()
    publish(sets[0], OUT)
    assert sorted(path.name for path in OUT.iterdir()) == [
        "000000.tar",
        "000001.tar",
        "manifest.json",
    ]
    publish(sets[0] / "manifest.json", OUT)
    assert OUT.is_file()


def test_sets_are_links_that_take_no_space(sets: list[Path]) -> None:
    publish_sets(sets, OUT, {"sets.json": "{}"})
    check_sound()
    shards = [folder / "train/000000.tar" for folder in (OUT, Path("scratch"))]
    assert shards[0].samefile(shards[1])


@pytest.mark.usefixtures("other_file_system")
def test_sets_are_copied_to_another_file_system(sets: list[Path]) -> None:
    publish_sets(sets, OUT, {"sets.json": "{}"})
    check_sound()


@pytest.mark.usefixtures("other_file_system")
def test_a_kill_while_copying_loses_nothing(
    sets: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.copyfile

    def killed(source: Path, target: Path) -> None:
        whole(source, target)
        if target.name == "000001.tar":
            Path(target).write_bytes(b"half")
            os._exit(9)

    pid = os.fork()
    if not pid:
        monkeypatch.setattr(shutil, "copyfile", killed)
        publish_sets(sets, OUT, {"sets.json": "{}"})
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 9
    assert not OUT.exists()
    publish_sets(sets, OUT, {"sets.json": "{}"})
    check_sound()


@pytest.mark.usefixtures("other_file_system")
def test_a_copy_that_is_not_the_manifests_is_refused(
    sets: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = shutil.copyfile

    def damaging(source: Path, target: Path) -> None:
        whole(source, target)
        if target.suffix == ".tar":
            data = target.read_bytes()
            target.write_bytes(data[:600] + b"!" + data[601:])

    OUT.mkdir(parents=True)
    monkeypatch.setattr(shutil, "copyfile", damaging)
    with pytest.raises(UserError, match=r"train/000000\.tar: found other bytes than its manifest"):
        publish_sets(sets, OUT, {})
    assert list(OUT.parent.rglob("*")) == [OUT], "what was there stays"


def test_a_set_without_one_of_its_shards_is_refused(sets: list[Path]) -> None:
    (sets[1] / "000001.tar").unlink()
    with pytest.raises(UserError, match=r"test/000001\.tar: missing, expected the shard"):
        publish_sets(sets, OUT, {})
    assert not OUT.exists()


def test_only_what_the_manifest_lists_is_published(sets: list[Path]) -> None:
    (sets[0] / "000002.tar").write_bytes(b"of an earlier run")
    manifest = Manifest.load(sets[1])
    manifest.save(Url("memory://elsewhere"))
    replace(manifest, location="memory://elsewhere").save(sets[1])
    publish_sets(sets, OUT, {})
    assert not (OUT / "train/000002.tar").exists()
    assert [path.name for path in (OUT / "test").iterdir()] == ["manifest.json"]


def test_a_set_that_is_no_longer_in_its_storage_is_refused(sets: list[Path]) -> None:
    manifest = Manifest.load(sets[1])
    replace(manifest, location="memory://vanished").save(sets[1])
    with pytest.raises(UserError, match=r"memory://vanished/manifest\.json: not found"):
        publish_sets(sets, OUT, {})
    replace(manifest, shards=manifest.shards[:1]).save(Url("memory://vanished"))
    with pytest.raises(UserError, match=r"vanished: found a set with root \w+, expected \w+"):
        publish_sets(sets, OUT, {})
    assert not OUT.exists()
