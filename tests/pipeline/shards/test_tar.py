"""Shards: equal bytes, stock readers, and every damage noticed."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
import webdataset

from pipeline.inspection.verify import verify_shards
from pipeline.shards.codec import decode_array, decode_png, encode_png
from pipeline.shards.index import write_index
from pipeline.shards.manifest import Manifest
from pipeline.shards.tar import Sample, read_shard, write_shard
from tests.support.pairs import texture
from tvqrap.runtime.errors import UserError


def samples(count: int = 4) -> list[Sample]:
    made = []
    for number in range(count):
        array = io.BytesIO()
        np.save(array, np.arange(6, dtype=np.uint16).reshape(2, 3) + number)
        members = {
            "lr0.png": encode_png(texture(number, 8, 8)),
            "hr.png": encode_png(texture(number, 32, 32)),
            "json": json.dumps({"photo": f"{number}.jpg"}).encode(),
            "codes.npy": array.getvalue(),
        }
        made.append(Sample(f"photo_{number:05d}", members))
    return made


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "train"
    rows = tuple(write_shard(folder / f"{n:06d}.tar", samples(4)) for n in range(2))
    manifest = Manifest("pairs", "train", {"size": 32}, rows, {"truncated": 1})
    manifest.save(folder)
    write_index(folder, manifest)
    return folder


def test_equal_samples_give_equal_bytes_and_come_back(tmp_path):
    first = write_shard(tmp_path / "000000.tar", samples())
    reordered = [Sample(s.key, dict(reversed(s.members.items()))) for s in samples()]
    second = write_shard(tmp_path / "000001.tar", reordered)
    assert (first.sha256, first.content, first.samples) == (second.sha256, second.content, 4)
    assert first.bytes == (tmp_path / "000000.tar").stat().st_size
    assert list(read_shard(tmp_path / "000000.tar")) == samples()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.tar", "000001.tar"]


def test_bytes_are_those_of_webdatasets_own_writer(tmp_path):
    write_shard(tmp_path / "a.tar", samples())
    with (tmp_path / "b.tar").open("wb") as file:
        writer = webdataset.TarWriter(file, user="", group="", mtime=0, encoder=False)
        for sample in samples():
            writer.write({"__key__": sample.key, **sample.members})
        writer.close()
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


def test_stock_webdataset_reads_them(tmp_path):
    write_shard(tmp_path / "000000.tar", samples())
    dataset = webdataset.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False).decode("rgb8")
    read = list(dataset)
    assert [sample["__key__"] for sample in read] == [sample.key for sample in samples()]
    np.testing.assert_array_equal(read[1]["hr.png"], texture(1, 32, 32))
    assert read[2]["json"] == {"photo": "2.jpg"}


def test_content_digest_ignores_compression_and_sees_pixels(tmp_path):
    def shard(image: np.ndarray, level: int) -> str:
        from PIL import Image

        stream = io.BytesIO()
        Image.fromarray(image).save(stream, "PNG", compress_level=level)
        sample = Sample("a", {"hr.png": stream.getvalue()})
        return write_shard(tmp_path / "x.tar", [sample]).content

    image = texture(1, 32, 32)
    changed = image.copy()
    changed[3, 4, 1] ^= 1
    assert shard(image, 1) == shard(image, 9) != shard(changed, 1)


def test_nothing_is_left_of_a_shard_whose_samples_fail(tmp_path):
    def failing():
        yield samples()[0]
        raise RuntimeError("no more")

    with pytest.raises(RuntimeError):
        write_shard(tmp_path / "000000.tar", failing())
    with pytest.raises(ValueError, match="used twice"):
        write_shard(tmp_path / "000000.tar", [samples()[0], samples()[0]])
    for key, suffix in [("a.b", "json"), ("../a", "json"), ("a", "pkl"), ("a", "hr.png.pyd")]:
        with pytest.raises(ValueError, match="member name"):
            write_shard(tmp_path / "000000.tar", [Sample(key, {suffix: b"{}"})])
    with pytest.raises(ValueError, match="not a PNG"):
        write_shard(tmp_path / "000000.tar", [Sample("a", {"hr.png": b"damaged"})])
    assert not list(tmp_path.iterdir())


def test_a_sound_folder_verifies(folder):
    assert verify_shards(folder, hashes=False) == []
    assert verify_shards(folder, hashes=True) == []
    manifest = Manifest.load(folder)
    assert manifest.samples == 8
    assert manifest.skipped == {"truncated": 1}
    assert Manifest.load(folder) == manifest


def member_ends(path: Path) -> list[int]:
    with tarfile.open(path) as tar:
        return [m.offset_data + -(-m.size // 512) * 512 for m in tar]


@pytest.mark.parametrize("member", [0, 3, 7, 15])
def test_a_cut_at_a_member_boundary_is_noticed(folder, member):
    path = folder / "000001.tar"
    end = member_ends(path)[member]
    with path.open("rb+") as file:
        file.truncate(end)
    with tarfile.open(path) as tar:  # what makes it dangerous
        assert len(tar.getnames()) == member + 1
    for hashes in (False, True):
        assert any("000001.tar" in line for line in verify_shards(folder, hashes=hashes))
    with pytest.raises(UserError, match=r"000001\.tar: cut short"):
        list(read_shard(path))


def test_a_cut_anywhere_is_noticed_by_the_reader(tmp_path):
    path = tmp_path / "000000.tar"
    write_shard(path, samples(2))
    whole = path.read_bytes()
    for size in range(0, len(whole), 501):
        path.write_bytes(whole[:size])
        with pytest.raises(UserError, match=r"000000\.tar"):
            list(read_shard(path))


def test_a_changed_byte_a_lost_shard_and_a_stray_one_are_noticed(folder):
    path = folder / "000000.tar"
    content = bytearray(path.read_bytes())
    content[member_ends(path)[0] - 512 - 700] ^= 1
    path.write_bytes(content)
    assert verify_shards(folder, hashes=False) == []
    assert len(verify_shards(folder, hashes=True)) >= 1
    path.rename(folder / "000007.tar")
    assert verify_shards(folder, hashes=False) == [
        f"{path}: missing",
        f"{folder / '000007.tar'}: not in the manifest",
    ]


def test_a_shard_swapped_for_another_of_the_same_size_is_noticed(folder):
    other = [Sample(s.key, s.members) for s in reversed(samples(4))]
    row = write_shard(folder / "000000.tar", other)
    assert row.bytes == Manifest.load(folder).shards[0].bytes
    problems = verify_shards(folder, hashes=True)
    assert [("SHA-256" in p) or ("content" in p) for p in problems] == [True, True]


def hostile(path: Path, name: str, kind: bytes = tarfile.REGTYPE, body: bytes = b"{}") -> None:
    with tarfile.open(path, "w") as tar:
        member = tarfile.TarInfo(name)
        member.type, member.linkname = kind, "/etc/passwd"
        member.size = len(body) if kind == tarfile.REGTYPE else 0
        tar.addfile(member, io.BytesIO(body))


@pytest.mark.parametrize(
    "name",
    [
        "../../evil.json",
        "/tmp/evil.json",
        "a.pkl",
        "a.pyd",
        "a.pth",
        "a",
        "a.hr.png.exe",
        "é.json",
        "a.lr0000.png",
        "a.json\n",
    ],
)
def test_hostile_member_names_are_refused(tmp_path, name):
    hostile(tmp_path / "x.tar", name)
    with pytest.raises(UserError, match="found member"):
        list(read_shard(tmp_path / "x.tar"))


@pytest.mark.parametrize(
    "kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE]
)
def test_other_kinds_of_entries_are_refused(tmp_path, kind):
    hostile(tmp_path / "x.tar", "a.json", kind)
    with pytest.raises(UserError, match="found member"):
        list(read_shard(tmp_path / "x.tar"))


def test_repeated_keys_and_members_are_refused(tmp_path):
    for names in (["a.json", "a.json"], ["a.json", "b.json", "a.hr.png"]):
        with tarfile.open(tmp_path / "x.tar", "w") as tar:
            for name in names:
                tar.addfile(tarfile.TarInfo(name))
        with pytest.raises(UserError, match="twice"):
            list(read_shard(tmp_path / "x.tar"))


def test_a_member_that_claims_to_be_huge_is_refused_before_it_is_read(tmp_path):
    member = tarfile.TarInfo("a.json")
    member.size = 2**40
    (tmp_path / "x.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    with pytest.raises(UserError, match="expected at most"):
        list(read_shard(tmp_path / "x.tar"))


def test_compressed_tars_and_missing_files_are_refused(tmp_path):
    with tarfile.open(tmp_path / "x.tar", "w:gz") as tar:
        tar.addfile(tarfile.TarInfo("a.json"))
    for name in ("x.tar", "none.tar"):
        with pytest.raises(UserError, match=name):
            list(read_shard(tmp_path / name))


def test_decoders_refuse_what_they_should():
    objects = io.BytesIO()
    np.save(objects, np.array([{"a": 1}], object), allow_pickle=True)
    with pytest.raises(ValueError, match="not an array"):
        decode_array(objects.getvalue())
    with pytest.raises(ValueError, match="not an array"):
        decode_array(b"\x93NUMPY\x01\x00 damaged")
    from PIL import Image

    for mode, kind in (
        ("L", "PNG"),
        ("RGBA", "PNG"),
        ("P", "PNG"),
        ("I;16", "PNG"),
        ("RGB", "BMP"),
    ):
        stream = io.BytesIO()
        Image.new(mode, (4, 4)).save(stream, kind)
        with pytest.raises(ValueError, match="not a PNG of a shard"):
            decode_png(stream.getvalue())
    with pytest.raises(ValueError, match="expected uint8"):
        encode_png(np.zeros((4, 4, 3), np.float32))


def test_pictures_are_decoded_as_they_were_and_damaged_ones_are_refused():
    from PIL import Image

    rng = np.random.default_rng(0)
    for shape in ((1, 1, 3), (16, 64, 3), (65, 33, 3)):
        image = rng.integers(0, 256, shape, np.uint8)
        assert np.array_equal(decode_png(encode_png(image)), image)
    turned, exif = io.BytesIO(), Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(image).save(turned, "PNG", exif=exif, compress_level=9)
    assert np.array_equal(decode_png(turned.getvalue()), image), "as stored, not turned"
    whole = encode_png(image)
    for at in range(0, len(whole) - 12, 97):
        damaged = bytearray(whole)
        damaged[at] ^= 4
        for payload in (bytes(damaged), whole[:at]):
            with pytest.raises(ValueError, match="not a PNG of a shard"):
                decode_png(payload)
    large = encode_png(np.zeros((1, 1, 3), np.uint8))
    large = large[:16] + (5000).to_bytes(4, "big") * 2 + large[24:]
    with pytest.raises(ValueError, match="5000x5000 pixels"):
        decode_png(large)


def test_chained_extended_headers_are_refused_in_one_line(tmp_path):
    header = tarfile.TarInfo("a.json")
    header.type = tarfile.XHDTYPE
    header.size = 512
    record = b"11 path=ab\n".ljust(512, b"\0")
    block = header.tobuf(tarfile.USTAR_FORMAT) + record
    (tmp_path / "x.tar").write_bytes(block * 3000 + bytes(10240))
    with pytest.raises(UserError, match=r"x\.tar: not a readable shard"):
        list(read_shard(tmp_path / "x.tar"))
