"""Estimates of a run, compared with small runs and with sums done by hand."""

from pathlib import Path

import numpy as np
import pytest

from pipeline.inspection.estimates import footprint
from pipeline.pairs.make import make_set
from pipeline.shards.codec import encode_array
from pipeline.shards.tar import Sample, read_shard, write_shard
from pipeline.sources.scan import scan_photos
from stages.estimates import Plan, Training
from stages.params import load_params
from stages.profile import profile_path
from tests.support.paths import ROOT
from tests.support.plans import paper_plan
from tvqrap.architecture import Architecture
from tvqrap.cost.flops import StepCost, tokenizer_step, tokenizing_operations


@pytest.fixture(scope="module")
def paper() -> Plan:
    return paper_plan()


def test_the_paper_profile_in_order(paper: Plan) -> None:
    found = [(each.stage, each.set, each.side, each.batch, each.steps) for each in paper.trainings]
    assert found == [
        ("train_tokenizer", "train512", 512, 8, 450_000),
        ("train_predictor", "train", 256, 32, 300_000),
        ("train_predictor", "train512", 512, 4, 4_000),
        ("finetune_rap", "train512", 512, 4, 10_000),
    ]
    assert [round(each.passes, 2) for each in paper.trainings] == [9.0, 8.0, 0.04, 0.1]
    trained = [round(each.step.trained / 1e6, 2) for each in paper.trainings]
    assert trained == [36.22, 39.45, 39.45, 40.12]


def test_operations_add_up(paper: Plan) -> None:
    for each in paper.trainings:
        assert each.operations == each.steps * sum(each.step.operations.values())
    small, large = (tokenizing_operations(Architecture(), side) for side in (256, 512))
    crops = {256: 1_200_000 + 64 + 3000, 512: 400_000}
    assert paper.extraction.samples == sum(crops.values())
    assert paper.extraction.operations == crops[256] * small + crops[512] * large
    assert large == 4 * small
    assert paper.operations == paper.extraction.operations + sum(
        each.operations for each in paper.trainings
    )


def test_stage_1_fits_40_gb_where_blocks_are_recomputed(paper: Plan) -> None:
    params = load_params(profile_path("paper", ROOT))
    crop = params.pairs.sets[params.tokenizer.set].size
    cost = tokenizer_step(params.architecture, params.tokenizer, crop, recompute=True)
    assert paper.tokenizer.step.state + paper.tokenizer.step.kept > 40e9
    assert cost.state == paper.tokenizer.step.state
    assert cost.state + cost.kept < 40e9
    more = sum(cost.operations.values()) / sum(paper.tokenizer.step.operations.values())
    assert 1 < more < 4 / 3


def test_a_discriminator_that_starts_late_costs_less() -> None:
    step = StepCost({"network": 100, "discriminator": 7}, kept=0, trained=1, averaged=1, frozen=0)
    late = [Training("rap", "train", 64, 2, 10, 5, start, step, 0) for start in (0, 4, 11)]
    assert [each.operations for each in late] == [1070, 1070 - 28, 1000]
    assert late[0].passes == 4


def test_twelve_shards_are_held(paper: Plan) -> None:
    disk = paper.disk["train512"]
    # Of 400 shards.
    assert paper.rap.held == pytest.approx((disk.pairs + disk.tokens) * 12 / 400, abs=1)
    assert paper.tokenizer.held == pytest.approx(disk.pairs * 12 / 400, abs=1)
    assert paper.predictor[1].held == pytest.approx(disk.tokens * 12 / 400, abs=1)


def test_disk_is_near_what_shards_of_photographs_take(tmp_path: Path) -> None:
    params = load_params(ROOT / "stages/profiles/paper.yaml")
    data = params.data.model_copy(update={"photos": str(ROOT / "data/photos")})
    scan = scan_photos(data, executor="serial", workers=1)
    chosen = params.pairs.sets["train"].model_copy(update={"count": 12})
    pairs = params.pairs.model_copy(
        update={
            "sets": {"train": chosen},
            "splits": params.pairs.splits.model_copy(update={"train": 0.8, "test": 0.195}),
        }
    )
    manifest = make_set("train", pairs, data, scan, tmp_path, executor="serial", workers=1)
    expected = footprint("train", chosen, params.architecture)
    written = sum(row.bytes for row in manifest.shards)
    assert expected.pairs == pytest.approx(written, rel=0.25)

    both = chosen.model_copy(update={"target": "both", "variants": 2})
    photo = chosen.model_copy(update={"variants": 2})
    plain, taught = (footprint("train", each, params.architecture) for each in (photo, both))
    assert taught.pairs > 2.5 * plain.pairs
    assert taught.tokens == plain.tokens, "tokens do not carry the teacher's images"

    def tokens(pair: Sample) -> Sample:
        members = {name: data for name, data in pair.members.items() if name != "hr.png"}
        codes, structure = np.zeros((32, 32), np.uint16), np.zeros((64, 8, 8), np.float16)
        members |= {"codes.npy": encode_array(codes), "structure.npy": encode_array(structure)}
        return Sample(pair.key, members)

    samples = [tokens(pair) for pair in read_shard(tmp_path / "train" / manifest.shards[0].name)]
    row = write_shard(tmp_path / "tokens.tar", samples)
    assert expected.tokens == pytest.approx(row.bytes, rel=0.25)
