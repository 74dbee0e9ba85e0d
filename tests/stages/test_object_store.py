"""Stages whose sets lie in an object store: the checkout has manifests alone, of the same bytes."""

import shutil
import sys
from pathlib import Path

import pytest

from pipeline.inspection.verify import verify_shards
from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Url
from stages.params import load_params
from tests.support.checkout import ROOT, make_checkout


@pytest.mark.slow
def test_a_checkout_holds_manifests_alone(tmp_path: Path, s3: Url) -> None:
    checkout = make_checkout(tmp_path)
    shutil.copytree(ROOT / "tvqrap/weights/tokenizer", checkout.root / "models/tokenizer")
    params = checkout.root / "params.yaml"
    text = params.read_text()
    roots: dict[str, set[str]] = {}
    for storage in (s3, ""):
        params.write_text(text.replace("\n  storage:\n", f"\n  storage: {storage}\n"))
        for stage in ("make_pairs", "extract_tokens"):
            checkout.run(sys.executable, "-m", f"stages.{stage}")
        for kind in ("pairs", "tokens"):
            assert getattr(load_params(params), kind).storage == (str(storage) or None)
            for name in ("train", "val", "test"):
                folder = checkout.root / "data" / kind / name
                shards = [path.name for path in folder.iterdir() if path.suffix == ".tar"]
                assert bool(shards) == (not storage)
                assert verify_shards(folder, hashes=True) == []
                roots.setdefault(f"{kind}/{name}", set()).add(Manifest.load(folder).root)
    assert [len(found) for found in roots.values()] == [1] * 6
    assert (checkout.root / "curves/tokens/codes/test.tsv").is_file()
