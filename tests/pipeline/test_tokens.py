"""Token extraction: what the tokenizer says, the same bytes everywhere, resumable, refusing."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from pipeline.pairs import make_set, survey_photos
from pipeline.settings import DataSettings, PairsSettings, TokensSettings
from pipeline.shards import Manifest, decode_array, decode_png, read_shard
from pipeline.tokens import check_tokens, code_statistics, extract_set
from tvqrap.architecture import Architecture
from tvqrap.errors import UserError
from tvqrap.model_folder import load_tokenizer, save_model
from tvqrap.tokenizer import Tokenizer

ARCHITECTURE = Architecture(width=0.0625, codebook=16, texture=4, structure=4 * 2)
SETTINGS = TokensSettings(device="cpu", batch=2, threads=1)


@pytest.fixture(scope="module")
def material(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """(folder of one pair set, folder of a tokenizer)."""
    from PIL import Image

    from tests.pipeline.material import PAIRS, texture

    root = tmp_path_factory.mktemp("tokens")
    (root / "photos").mkdir()
    for number in range(8):
        image = texture(number, 128, 140 + 5 * number)
        Image.fromarray(image).save(root / "photos" / f"p{number}.png")
    data = DataSettings(photos=str(root / "photos"), min_side=64, max_pixels=100_000, max_lost=0.5)
    train = {**PAIRS["sets"]["train"], "size": 64, "count": 7}
    pairs = PairsSettings.model_validate({**PAIRS, "shard_size": 3, "sets": {"train": train}})
    survey = survey_photos(data, place="here", workers=1)
    make_set("train", pairs, data, survey, root / "work", place="here", workers=1)
    torch.manual_seed(0)
    save_model(root / "tokenizer", "tokenizer", Tokenizer(ARCHITECTURE), ARCHITECTURE, {})
    return root / "work" / "train", root / "tokenizer"


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def extract(material: tuple[Path, Path], out: Path, **options: Any) -> Manifest:
    """Extracts into `out/train`."""
    options = {"place": "here", "workers": 1, **options}
    return extract_set(*material, out, SETTINGS, **options)


def test_tokens_are_what_the_tokenizer_says(material: tuple[Path, Path], tmp_path: Path) -> None:
    pairs, folder = material
    manifest = extract(material, tmp_path)
    tokenizer = load_tokenizer(folder)
    source = Manifest.load(pairs)
    assert manifest.samples == source.samples == 7
    assert [row.name for row in manifest.shards] == [row.name for row in source.shards]
    counts = np.zeros(ARCHITECTURE.codebook, dtype=int)
    for row in source.shards:
        found = list(read_shard(tmp_path / "train" / row.name))
        for pair, tokens in zip(read_shard(pairs / row.name), found, strict=True):
            assert tokens.key == pair.key
            assert set(tokens.members) == set(pair.members) - {"hr.png"} | {
                "codes.npy",
                "structure.npy",
            }
            assert tokens.members["lr1.png"] == pair.members["lr1.png"]
            hr = torch.from_numpy(decode_png(pair.members["hr.png"])).permute(2, 0, 1)[None]
            structure, codes = tokenizer.tokenize(hr.float() / 127.5 - 1)
            stored = decode_array(tokens.members["codes.npy"])
            assert stored.dtype == np.uint16 and stored.shape == (16, 16)
            assert (stored == codes[0].numpy()).mean() > 0.99  # another batch, other last bits
            assert structure is not None
            kept = decode_array(tokens.members["structure.npy"])
            assert kept.dtype == np.float16
            np.testing.assert_allclose(kept, structure[0].numpy(), rtol=2e-3, atol=2e-3)
            counts += np.bincount(stored.ravel(), minlength=ARCHITECTURE.codebook)
    assert manifest.extra["code_perplexity"] == code_statistics(counts)["code_perplexity"]


@pytest.mark.parametrize("workers", [1, 2])
def test_ray_gives_the_same_bytes(
    workers: int, material: tuple[Path, Path], tmp_path: Path, ray_cluster: Any
) -> None:
    extract(material, tmp_path / "here")
    extract(material, tmp_path / "ray", place="ray", workers=workers)
    assert contents(tmp_path / "here/train") == contents(tmp_path / "ray/train")


def test_it_goes_on_from_finished_shards(material: tuple[Path, Path], tmp_path: Path) -> None:
    extract(material, tmp_path / "whole")
    done: list[int] = []

    class Killed(BaseException):
        pass

    def die_after_first(samples: int) -> None:
        done.append(samples)
        raise Killed

    with pytest.raises(Killed):
        extract(material, tmp_path / "parts", on_shard=die_after_first)
    assert not (tmp_path / "parts/train/manifest.json").exists()
    first = tmp_path / "parts/train/000000.tar"
    written = first.stat().st_mtime_ns
    heard: list[int] = []
    extract(material, tmp_path / "parts", on_shard=heard.append)
    assert first.stat().st_mtime_ns == written, "the finished shard was made again"
    assert sum(heard) == 7
    assert contents(tmp_path / "whole/train") == contents(tmp_path / "parts/train")


def test_a_finished_shard_that_was_damaged_is_made_again(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    extract(material, tmp_path / "whole")

    class Killed(BaseException):
        pass

    def die(samples: int) -> None:
        raise Killed

    with pytest.raises(Killed):
        extract(material, tmp_path / "parts", on_shard=die)
    (tmp_path / "parts/train/000000.tar").write_bytes(b"cut")
    extract(material, tmp_path / "parts")
    assert contents(tmp_path / "whole/train") == contents(tmp_path / "parts/train")


def test_a_broken_shard_is_listed_and_the_others_are_finished(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    import shutil

    pairs = shutil.copytree(material[0], tmp_path / "pairs")
    shard = pairs / "000001.tar"
    shard.write_bytes(shard.read_bytes()[:2048])
    with pytest.raises(UserError, match=r"1 of 3 shards failed: 000001\.tar: .*000001\.tar"):
        extract((pairs, material[1]), tmp_path / "out")
    assert {path.name for path in (tmp_path / "out/train").glob("*.tar")} == {
        "000000.tar",
        "000002.tar",
    }


def test_tokens_of_another_tokenizer_are_refused(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    manifest = extract(material, tmp_path / "tokens")
    assert check_tokens(tmp_path / "tokens/train", material[1]) == manifest
    torch.manual_seed(1)
    other = save_model(tmp_path / "other", "tokenizer", Tokenizer(ARCHITECTURE), ARCHITECTURE, {})
    with pytest.raises(UserError) as caught:
        check_tokens(tmp_path / "tokens/train", tmp_path / "other")
    assert other.fingerprint[:12] in str(caught.value)
    assert manifest.extra["tokenizer"][:12] in str(caught.value)


def test_the_manifest_says_how_tokens_were_made(
    material: tuple[Path, Path], tmp_path: Path
) -> None:
    extract(material, tmp_path)
    content = json.loads((tmp_path / "train/manifest.json").read_text())
    assert content["extra"]["architecture"] == ARCHITECTURE.to_dict()
    assert content["extra"]["pairs"] == Manifest.load(material[0]).root
    for key in ("precision", "device", "batch", "threads", "codes_used"):
        assert key in content["extra"]


def test_code_statistics_of_known_histograms() -> None:
    even = code_statistics(np.array([5, 5, 5, 5]))
    assert even == {"codes_used": 1.0, "code_entropy": 1.386294, "code_perplexity": 4.0}
    one = code_statistics(np.array([7, 0, 0, 0]))
    assert one == {"codes_used": 0.25, "code_entropy": 0.0, "code_perplexity": 1.0}
