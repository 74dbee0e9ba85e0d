"""Sources of photographs: each kind gives the set that a folder of the same files gives."""

import io
import json
import os
import sys
import tarfile
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fsspec
import pytest

from pipeline.config import DataSettings, PairsSettings
from pipeline.pairs.make import make_set
from pipeline.shards.manifest import Manifest
from pipeline.sources import scan as scan_module
from pipeline.sources.listing import find_photos
from pipeline.sources.photos import UnusableError, content_of
from pipeline.sources.scan import scan_photos
from pipeline.storage.content import MAX_BYTES
from pipeline.storage.location import Url
from tvqrap.runtime.errors import UserError


def tar_of(paths: list[Path], out: Path, prefix: str = "") -> Path:
    """A tar archive as img2dataset writes one: each image with its caption and metadata."""
    with tarfile.open(out, "w") as tar:
        for path in paths:
            for suffix, content in (
                (path.suffix, path.read_bytes()),
                (".txt", b"a caption"),
                (".json", b"{}"),
            ):
                member = tarfile.TarInfo(f"{prefix}{path.stem}{suffix}")
                member.size = len(content)
                tar.addfile(member, io.BytesIO(content))
    return out


def lmdb_of(paths: list[Path], out: Path) -> Path:
    """An LMDB as BasicSR writes one."""
    lmdb = pytest.importorskip("lmdb", exc_type=ImportError)
    with lmdb.open(str(out), map_size=2**26) as store, store.begin(write=True) as transaction:
        for path in paths:
            transaction.put(path.stem.encode(), path.read_bytes())
    lines = [f"{path.name} (64,100,3) 1" for path in paths]
    (out / "meta_info.txt").write_text("\n".join(lines) + "\n")
    return out


def memory() -> str:
    """A new place in this process's memory."""
    return f"memory://{uuid.uuid4().hex}"


def uploaded(paths: list[Path], url: str) -> str:
    for path in paths:
        with fsspec.open(f"{url}/{path.name}", "wb") as file:
            file.write(path.read_bytes())
    return url


def moved(paths: list[Path], folder: Path) -> Path:
    folder.mkdir(parents=True)
    for path in paths:
        os.link(path, folder / path.name)
    return folder


def listed(tmp_path: Path, *entries: Any) -> str:
    """A list of sources, in YAML, which JSON is too."""
    (tmp_path / "sources.yaml").write_text(json.dumps(list(entries)))
    return str(tmp_path / "sources.yaml")


Make = Callable[[list[Path], Path], list[Any]]


def linked(paths: list[Path], tmp: Path) -> list[Any]:
    (tmp / "link").symlink_to(paths[0].parent)
    return [str(tmp / "link")]


def with_meta_info(paths: list[Path], tmp: Path) -> list[Any]:
    (paths[0].parent / "other.png").write_bytes(paths[0].read_bytes()[:-4])
    (tmp / "meta_info.txt").write_text("".join(f"{path.name} (1,2,3)\n" for path in paths))
    return [{"photos": str(paths[0].parent), "meta_info": str(tmp / "meta_info.txt")}]


def two_tars(paths: list[Path], tmp: Path) -> None:
    tar_of(paths[:3], tmp / "00000.tar", "./")
    tar_of(paths[3:], tmp / "00001.tar")


def remote_tars(paths: list[Path], tmp: Path) -> list[Any]:
    two_tars(paths, tmp)
    url = memory()
    uploaded([tmp / "00000.tar", tmp / "00001.tar"], f"{url}/tars")
    return [f"{url}/*/0000?.tar"]


KINDS: dict[str, Make] = {
    "link to a folder": linked,
    "two folders": lambda paths, tmp: [
        str(moved(paths[:3], tmp / "a")),
        str(moved(paths[3:], tmp / "b")),
    ],
    "pattern of files": lambda paths, tmp: [f"{paths[0].parent}/p*.png"],
    "meta_info": with_meta_info,
    "pattern of tars": lambda paths, tmp: [two_tars(paths, tmp) or f"{tmp}/0*.tar"],
    "store": lambda paths, tmp: [uploaded(paths, f"{memory()}/x")],
    "pattern in a store": lambda paths, tmp: [f"{uploaded(paths, memory())}/*.png"],
    "tars in a store": remote_tars,
    "lmdb": lambda paths, tmp: [str(lmdb_of(paths, tmp / "x.lmdb"))],
    "several kinds": lambda paths, tmp: [
        str(moved(paths[:2], tmp / "a")),
        str(tar_of(paths[2:4], tmp / "x.tar")),
        f"{uploaded(paths[4:], memory())}/*.png",
    ],
}


def photos_of(data: DataSettings) -> list[Path]:
    return sorted(Path(data.photos).iterdir())


def made(pairs: PairsSettings, data: DataSettings, out: Path, **options: Any) -> Manifest:
    options = {"executor": "serial", "workers": 1, **options}
    scan = scan_photos(data, **options)
    return make_set("train", pairs, data, scan, out, **options)


def elsewhere(data: DataSettings, photos: str) -> DataSettings:
    return data.model_copy(update={"photos": photos})


@pytest.mark.parametrize("kind", KINDS)
def test_a_source_gives_the_bytes_of_a_folder(
    kind: str, pairs: PairsSettings, data: DataSettings, tmp_path: Path
) -> None:
    expected = made(pairs, data, tmp_path / "folder")
    (tmp_path / "sources").mkdir()
    photos = listed(tmp_path, *KINDS[kind](photos_of(data), tmp_path / "sources"))
    found = made(pairs, elsewhere(data, photos), tmp_path / "other")
    assert found.root == expected.root
    assert found.extra == expected.extra and found.skipped == {}


def test_an_archive_is_a_source_by_itself_and_workers_read_it(
    pairs: PairsSettings, data: DataSettings, tmp_path: Path
) -> None:
    expected = made(pairs, data, tmp_path / "folder")
    archive = elsewhere(data, str(tar_of(photos_of(data), tmp_path / "photos.tar")))
    found = made(pairs, archive, tmp_path / "other", executor="processes", workers=2)
    assert found.root == expected.root


def test_workers_read_a_store(
    pairs: PairsSettings, data: DataSettings, tmp_path: Path, s3: Url
) -> None:
    expected = made(pairs, data, tmp_path / "folder")
    tar_of(photos_of(data)[5:], tmp_path / "more.tar")
    uploaded([*photos_of(data)[:5], tmp_path / "more.tar"], str(s3))
    remote = elsewhere(data, listed(tmp_path, str(s3)))
    found = made(pairs, remote, tmp_path / "other", executor="processes", workers=2)
    assert found.root == expected.root


def test_equal_names_need_a_name_of_their_source(data: DataSettings, tmp_path: Path) -> None:
    paths = photos_of(data)
    first, second = moved(paths, tmp_path / "a"), moved(paths, tmp_path / "b")
    with pytest.raises(UserError) as caught:
        find_photos(listed(tmp_path, str(first), str(second)))
    assert "found p0.png twice" in str(caught.value) and "\n" not in str(caught.value)
    both = listed(tmp_path, str(first), {"photos": str(second), "name": "more"})
    names = [photo.name for photo in find_photos(both).photos]
    assert names == sorted([f"more/{path.name}" for path in paths] + [path.name for path in paths])
    alone = {photo.key for photo in find_photos(str(first)).photos}
    assert alone < {photo.key for photo in find_photos(both).photos}, "a source changes no keys"


def test_a_later_scan_reads_what_changed_in_a_source(
    data: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = photos_of(data)
    archive = tar_of(paths[:3], tmp_path / "photos.tar")
    store = uploaded(paths[3:], memory())
    photos = elsewhere(data, listed(tmp_path, str(archive), store))
    decoded: list[object] = []
    decode = scan_module.decode

    def recorded(content: Any, settings: DataSettings) -> Any:
        decoded.append(content)
        return decode(content, settings)

    monkeypatch.setattr(scan_module, "decode", recorded)

    def scan() -> int:
        decoded.clear()
        found = scan_photos(photos, executor="serial", workers=1, kept=tmp_path / "kept")
        assert len(found.usable) == 8
        return len(decoded)

    assert (scan(), scan()) == (8, 0)
    uploaded(paths[4:5], store)
    assert scan() == 1
    os.utime(archive, ns=(1, 1))
    assert scan() == 3


def hostile(path: Path, photo: bytes) -> Path:
    """An archive with every kind of member that is no plain image."""

    def member(name: str, kind: bytes = tarfile.REGTYPE) -> tarfile.TarInfo:
        made = tarfile.TarInfo(name)
        made.type, made.linkname = kind, "/etc/passwd"
        made.size = len(photo) if kind == tarfile.REGTYPE else 0
        return made

    with tarfile.open(path, "w") as tar:
        for name in ("good.png", "../out.png", "/abs.png", "a/../../out.png", "good.png"):
            tar.addfile(member(name), io.BytesIO(photo))
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            tar.addfile(member(f"special{kind.decode()}.png", kind))
        tar.addfile(member("folder.png", tarfile.DIRTYPE))
        tar.addfile(member(".hidden.png"), io.BytesIO(photo))
        tar.addfile(member("__MACOSX/thumb.png"), io.BytesIO(photo))
        tar.addfile(member(os.fsdecode(b"\xff.png")), io.BytesIO(photo))
        tar.addfile(member("also good.png"), io.BytesIO(photo))
        huge = member("huge.png")
        huge.size = MAX_BYTES + 1
        tar.addfile(huge)
    return path


def test_a_hostile_archive_loses_what_is_no_plain_image(data: DataSettings, tmp_path: Path) -> None:
    folder = tmp_path / "work"
    folder.mkdir()
    archive = hostile(folder / "x.tar", photos_of(data)[0].read_bytes())
    scan = scan_photos(elsewhere(data, str(archive)), executor="serial", workers=1)
    assert [entry.photo.name for entry in scan.usable] == ["also good.png", "good.png"]
    reasons = {entry.name: entry.reason for entry in scan.skipped}
    special = "a link or another special member of an archive"
    assert reasons == {
        "../out.png": "its name leads out of the archive",
        "/abs.png": "its name leads out of the archive",
        "a/../../out.png": "its name leads out of the archive",
        "good.png": "its name is there twice",
        **{f"special{kind}.png": special for kind in "1236"},
        "\\xff.png": "its name is not UTF-8",
        "huge.png": f"{MAX_BYTES + 1} bytes, at most {MAX_BYTES} are read",
        str(archive): "the archive is damaged after 15 members (unexpected end of data)",
    }
    assert list(folder.iterdir()) == [archive]


def test_a_cut_or_foreign_archive_is_a_loss(data: DataSettings, tmp_path: Path) -> None:
    path = tar_of(photos_of(data), tmp_path / "x.tar")
    whole = path.read_bytes().rstrip(b"\0")  # without the end mark
    for size in range(0, len(whole), 5003):
        path.write_bytes(whole[:size])
        found = find_photos(str(path))
        assert len(found.photos) < 8
        assert found.skipped, f"a cut at {size} is no loss"
        for photo in found.photos:
            assert content_of(tmp_path, photo)
    path.write_bytes(b"no archive" * 1000)
    assert find_photos(str(path)).skipped


@pytest.mark.parametrize("damage", ["checksum", "zeros", "behind"])
def test_a_damaged_header_and_another_archive_behind_are_a_loss(
    damage: str, data: DataSettings, tmp_path: Path
) -> None:
    path = tar_of(photos_of(data), tmp_path / "x.tar")
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        third = tar.getmembers()[2].offset
    header = {"checksum": b"x" * 512, "zeros": bytes(512), "behind": None}[damage]
    rest = content if header is None else header + content[third + 512 :]
    path.write_bytes((content if header is None else content[:third]) + rest)
    found = find_photos(str(path))
    assert len(found.photos) == 8 if damage == "behind" else 0 < len(found.photos) < 3
    assert "damaged" in found.skipped[0].reason


def test_a_pattern_names_what_it_cannot_read(data: DataSettings, tmp_path: Path) -> None:
    folder = Path(data.photos)
    (folder / "gone.png").symlink_to("nowhere")
    os.mkfifo(folder / "pipe.png")
    os.mkfifo(folder / "pipe")
    found = find_photos(listed(tmp_path, f"{folder}/*"))
    assert len(found.photos) == 8
    reasons = {entry.name: entry.reason for entry in found.skipped}
    assert reasons == {
        "gone.png": "a link that leads nowhere",
        "pipe.png": "neither a file nor a folder",
    }


@pytest.mark.parametrize("entry", ["*", "link", "link/x.tar", "link/p0.png", "*/*.tar", "*/*.png"])
def test_paths_that_are_not_utf_8_are_losses(
    entry: str, data: DataSettings, tmp_path: Path
) -> None:
    folder = moved(photos_of(data), tmp_path / "in" / os.fsdecode(b"\xf6"))
    tar_of(photos_of(data), folder / "x.tar")
    (tmp_path / "in/link").symlink_to(folder)
    moved(photos_of(data)[:1], tmp_path / "in/good")
    sources = listed(tmp_path, f"{tmp_path}/in/{entry}", f"{tmp_path}/in/good/p0.png")
    photos = elsewhere(data, sources)
    scan = scan_photos(photos, executor="serial", workers=1, kept=tmp_path / "kept")
    assert {found.photo.name for found in scan.usable} <= {"p0.png", "good/p0.png"}
    assert scan.skipped and all("is not UTF-8" in each.reason for each in scan.skipped)


def test_what_is_gone_since_it_was_listed_is_a_loss(
    data: DataSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Url(uploaded(photos_of(data), memory()))
    real = scan_module.find_photos

    def then_removed(photos: str) -> Any:
        found = real(photos)
        (store / "p3.png").remove()
        return found

    monkeypatch.setattr(scan_module, "find_photos", then_removed)
    photos = elsewhere(data, listed(tmp_path, str(store)))
    scan = scan_photos(photos, executor="serial", workers=1)
    assert [(entry.name, entry.reason) for entry in scan.skipped] == [("p3.png", "no such file")]


def test_a_name_that_only_a_list_knows_is_a_loss(data: DataSettings, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("p1.png (1,2,3)\n../p2.png\nabsent.png\n\n")
    entry = {"photos": data.photos, "meta_info": str(tmp_path / "list.txt")}
    found = find_photos(listed(tmp_path, entry))
    assert [photo.name for photo in found.photos] == ["p1.png"]
    assert [entry.name for entry in found.skipped] == ["../p2.png", "absent.png"]


def test_a_value_that_an_lmdb_lacks_is_a_loss(data: DataSettings, tmp_path: Path) -> None:
    folder = lmdb_of(photos_of(data), tmp_path / "x.lmdb")
    with (folder / "meta_info.txt").open("a") as file:
        file.write("absent.png (1,2,3) 1\n")
    *found, last = sorted(find_photos(str(folder)).photos, key=lambda photo: photo.key[0] == "a")
    assert len(found) == 8
    with pytest.raises(UnusableError, match="no such file"):
        content_of(tmp_path, last)


def test_a_line_of_an_lmdb_without_a_name_is_a_loss(data: DataSettings, tmp_path: Path) -> None:
    folder = lmdb_of(photos_of(data), tmp_path / "x.lmdb")
    (folder / "meta_info.txt").write_text("p1.png\n. 1\n,\n/\n")
    found = find_photos(str(folder))
    assert [each.name for each in found.photos] == ["p1.png"]
    assert [each.reason for each in found.skipped] == ["no name of a photograph"] * 3


def test_an_lmdb_without_the_package_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "x.lmdb").mkdir()
    (tmp_path / "x.lmdb/data.mdb").touch()
    monkeypatch.setitem(sys.modules, "lmdb", None)
    with pytest.raises(UserError, match=r"expected the package lmdb .*pip install lmdb"):
        find_photos(str(tmp_path / "x.lmdb"))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "not a list of sources"),
        ("photos: x", "valid list"),
        ("- 5", "not a list of sources"),
        ("- {photos: x, more: 1}", "not a list of sources"),
        ("- {photos: x, name: a/b}", "not a list of sources"),
        ("- absent", "absent: not found, expected a folder"),
        ("- absent/*.tar", "absent/*.tar matches nothing"),
        ("- absent/**.jpg", "absent/**.jpg: Invalid pattern"),
        ("[" * 3000, "not a list of sources"),
        ("- memory://absent", "found no image and no tar archive"),
        ("- absurd://x", "cannot be used"),
        ("- x.tar.gz", "compressed, expected an uncompressed"),
        ("- {photos: ., meta_info: absent.txt}", "absent.txt: not found"),
    ],
)
def test_a_list_that_cannot_be_used_is_one_line(
    text: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("x.tar.gz").touch()
    Path("sources.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        find_photos("sources.yaml")
    assert said in str(caught.value) and "\n" not in str(caught.value)
    with pytest.raises(UserError, match="not found"):
        find_photos("absent.yaml")
