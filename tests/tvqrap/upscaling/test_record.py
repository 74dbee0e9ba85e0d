"""Records of upscaled files, and how they differ."""

from pathlib import Path

from tvqrap.upscaling.record import SOURCE, difference, made_by, source_digest


def test_the_digest_is_that_of_the_whole_file(tmp_path: Path) -> None:
    contents = [bytes(2**18), bytes(2**17) + b"1" + bytes(2**17 - 1)]
    path = tmp_path / "a.bmp"
    digests = []
    for content in contents:
        path.write_bytes(content)
        assert source_digest(path) == source_digest(content)
        digests.append(source_digest(path))
    assert digests[0] != digests[1]


def test_records_without_later_keys_are_those_of_the_defaults() -> None:
    wanted = {**made_by("f" * 64, "keep", "float32", tile=None), SOURCE: "a" * 12}
    earlier = {"colour": "keep", "precision": "float32", "model": "f" * 12, "source": "b" * 12}
    assert difference(earlier, wanted) == ""
    tiled = {**wanted, **made_by("f" * 64, "keep", "float32", tile=64, overlap=8)}
    expected = "made with tile auto (now 64), overlap auto (now 8)"
    assert difference(earlier, tiled) == difference(wanted, tiled) == expected
    assert difference(tiled, wanted) == "made with tile 64 (now auto), overlap 8 (now auto)"
    assert difference(tiled, tiled) == ""
