"""Extraction on a Ray cluster that already runs, as RAY_ADDRESS names it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.pairs import make_set, survey_photos
from pipeline.settings import DataSettings, PairsSettings
from tests.pipeline.material import PAIRS, texture
from tvqrap.architecture import Architecture
from tvqrap.model_folder import save_model
from tvqrap.tokenizer import Tokenizer

ROOT = Path(__file__).parents[2]
ARCHITECTURE = Architecture(width=0.0625, codebook=16, texture=4, structure=8)

SCRIPT = """
import os, sys
from pathlib import Path
from ray.cluster_utils import Cluster
from pipeline.settings import TokensSettings
from pipeline.tokens import extract_set

root = Path(sys.argv[1])
settings = TokensSettings(device="cpu", batch=2, threads=1)

def extract(name, **options):
    return extract_set(root / "work/train", root / "tokenizer", root / name, settings, **options)

here = extract("here", place="here", workers=1)
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
os.environ["RAY_ADDRESS"] = cluster.address
there = extract("there", place="ray", workers=1000)
cluster.shutdown()
assert there == here, (there, here)
"""


@pytest.mark.slow
def test_a_running_cluster_gives_the_same_bytes(tmp_path: Path) -> None:
    from PIL import Image

    (tmp_path / "photos").mkdir()
    for number in range(8):
        image = texture(number, 128, 140 + 5 * number)
        Image.fromarray(image).save(tmp_path / "photos" / f"p{number}.png")
    data = DataSettings(
        photos=str(tmp_path / "photos"), min_side=64, max_pixels=100_000, max_lost=0.5
    )
    train = {**PAIRS["sets"]["train"], "size": 64, "count": 7}
    pairs = PairsSettings.model_validate({**PAIRS, "shard_size": 3, "sets": {"train": train}})
    survey = survey_photos(data, place="here", workers=1)
    make_set("train", pairs, data, survey, tmp_path / "work", place="here", workers=1)
    torch.manual_seed(0)
    save_model(tmp_path / "tokenizer", "tokenizer", Tokenizer(ARCHITECTURE), ARCHITECTURE, {})
    environment = {name: value for name, value in os.environ.items() if name != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    first = {path.name: path.read_bytes() for path in (tmp_path / "here/train").iterdir()}
    second = {path.name: path.read_bytes() for path in (tmp_path / "there/train").iterdir()}
    assert first == second


def test_an_address_where_nothing_listens_is_one_line(tmp_path: Path) -> None:
    script = (
        "from pipeline.executor import ray_cluster\n"
        "from tvqrap.errors import UserError\n"
        "try:\n"
        "    with ray_cluster(): pass\n"
        "except UserError as error:\n"
        "    print('one line:', error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**os.environ, "RAY_ADDRESS": "127.0.0.1:1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert "one line: RAY_ADDRESS is '127.0.0.1:1'" in done.stdout, done.stderr[-2000:]
