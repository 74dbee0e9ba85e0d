"""The scan: results that are kept from run to run, chunks, duplicates."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from pipeline.config import DataSettings, PairsSettings
from pipeline.sources import scan as scan_module
from pipeline.sources.photos import Photo, UnusableError
from pipeline.sources.scan import PhotoScan, scan_photos
from pipeline.sources.scanned import ScannedPhoto, ScannedPhotos
from pipeline.sources.splits import NEAR, near_hashes
from tests.support.pairs import PAIRS, texture
from tvqrap.runtime.errors import UserError


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the photographs that are decoded from now on."""
    names: list[str] = []
    decode = scan_module.decode

    def recorded(content: Path, settings: DataSettings) -> np.ndarray:
        names.append(content.name)
        return decode(content, settings)

    monkeypatch.setattr(scan_module, "decode", recorded)
    return names


def scan(data: DataSettings, kept: Path, code: str = "") -> PhotoScan:
    return scan_photos(data, executor="serial", workers=1, kept=kept, code=code)


def found(scan: PhotoScan) -> tuple[object, ...]:
    return (*scan.usable, *scan.skipped, scan.passed_over)


def test_a_later_scan_decodes_what_is_new_or_changed(
    data: DataSettings, tmp_path: Path, decoded: list[str]
) -> None:
    photos, kept = Path(data.photos), tmp_path / "kept"
    (photos / "bad.png").write_bytes(b"bad")
    first = scan(data, kept)
    assert len(decoded) == 9 and len(first.skipped) == 1
    decoded.clear()
    assert found(scan(data, kept)) == found(first)
    assert decoded == []
    Image.fromarray(texture(9, 60, 60)).save(photos / "new.png")
    os.utime(photos / "p1.png", ns=(1, 1))
    (photos / "p2.png").unlink()
    third = scan(data, kept)
    assert sorted(decoded) == ["new.png", "p1.png"]
    assert found(third) == found(scan_photos(data, executor="serial", workers=1))
    (table,) = kept.rglob("*.parquet")
    assert "p2.png" not in pq.read_table(table)["path"].to_pylist()


def test_a_file_that_cannot_be_read_is_tried_again(
    data: DataSettings, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its modification time stays when its permissions are mended."""
    Path(data.photos, "bad.png").write_bytes(b"bad")
    with monkeypatch.context() as patched:

        def refused(path: Path) -> str:
            raise PermissionError("not yours")

        patched.setattr(scan_module, "content_sha256", refused)
        patched.setattr(scan_module, "decode", raising(UnusableError("cannot be read")))
        with pytest.raises(UserError, match="9 such as"):
            scan(data, tmp_path / "kept")
    assert len(scan(data, tmp_path / "kept").usable) == 8
    assert len(decoded) == 9
    scan(data, tmp_path / "kept")
    assert len(decoded) == 9, "but one that is no image is known"


def raising(error: Exception) -> Callable[..., np.ndarray]:
    def decode(*_: object) -> np.ndarray:
        raise error

    return decode


def test_a_table_of_other_limits_or_code_or_a_damaged_one_does_not_count(
    data: DataSettings, tmp_path: Path, decoded: list[str]
) -> None:
    kept = tmp_path / "kept"
    scan(data, kept)
    for changed, code in (
        (data.model_copy(update={"min_side": 50}), ""),
        (data.model_copy(update={"max_pixels": 90_000}), ""),
        (data, "other"),
    ):
        decoded.clear()
        scan(changed, kept, code)
        assert len(decoded) == 8
    (table,) = kept.rglob("*.parquet")
    for damage in (b"", b"PAR1", table.read_bytes()[:-20]):
        table.write_bytes(damage)
        decoded.clear()
        scan(data, kept)
        assert len(decoded) == 8
    pq.write_table(pa.table({"path": ["p0.png"]}), table)
    decoded.clear()
    scan(data, kept)
    assert len(decoded) == 8


def test_a_scan_that_is_stopped_goes_on_where_it_was(
    data: DataSettings, tmp_path: Path, decoded: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, whole = tmp_path / "kept", scan(data, tmp_path / "other")

    def stop(count: int) -> None:
        if len(decoded) > 4:  # in the second chunk
            raise KeyboardInterrupt

    decoded.clear()
    monkeypatch.setattr(scan_module, "KEEP_SECONDS", 0.0)
    with pytest.raises(KeyboardInterrupt):
        scan_photos(data, executor="serial", workers=1, kept=kept, advance=stop)
    first = set(decoded)
    decoded.clear()
    assert found(scan(data, kept)) == found(whole)
    assert 0 < len(decoded) < 8 and len(first | set(decoded)) == 8
    assert [path.name for path in kept.rglob("*.parquet")] == ["photographs.parquet"]


def test_processes_find_the_same(data: DataSettings, tmp_path: Path) -> None:
    one = scan_photos(data, executor="processes", workers=2, kept=tmp_path / "kept")
    assert found(one) == found(scan_photos(data, executor="serial", workers=1))


def test_equal_files_are_in_one_split(data: DataSettings) -> None:
    photos = Path(data.photos)
    for number in range(8):
        for copy in range(3):
            shutil.copy(photos / f"p{number}.png", photos / f"{copy}-copy-of-{number}.png")
    pairs = PairsSettings.model_validate(PAIRS)
    scanned = scan_photos(data, executor="serial", workers=1)
    splits = scanned.splits(pairs)
    assert sum(map(len, splits.values())) == 32 and all(map(len, splits.values()))
    by_content: dict[str, set[str]] = {}
    for name, numbers in splits.items():
        for number in numbers:
            by_content.setdefault(scanned.usable[number].sha256, set()).add(name)
    assert all(len(names) == 1 for names in by_content.values())
    assert scanned.near_duplicates(pairs) == []


def test_the_index_finds_what_a_comparison_of_all_finds() -> None:
    rng = np.random.default_rng(0)
    indexed = rng.integers(0, 2**64, 3000, np.uint64)
    queries = rng.integers(0, 2**64, 500, np.uint64)
    for number in range(400):  # hashes with 0 to 15 different bits
        flipped = rng.choice(64, number % 16, replace=False).astype(np.uint64)
        bits = np.bitwise_or.reduce(np.uint64(1) << flipped, initial=np.uint64(0))
        queries[number] = indexed[7 * number] ^ bits
    distances = np.bitwise_count(queries[:, None] ^ indexed[None])
    np.testing.assert_array_equal(near_hashes(queries, indexed), np.argwhere(distances <= NEAR))
    assert near_hashes(queries[:0], indexed).shape == near_hashes(queries, indexed[:0]).shape


def test_many_photographs_of_one_hash_make_one_pair_of_near_duplicates() -> None:
    entries = ScannedPhotos.of(
        ScannedPhoto(Photo(f"k{n:05d}", f"k{n:05d}.png"), 64, 64, f"{n:064d}", 7)
        for n in range(5000)
    )
    found = PhotoScan(entries, ()).near_duplicates(PairsSettings.model_validate(PAIRS))
    assert [distance for _, _, distance in found] == [0, 0, 0], "train, val and test"
