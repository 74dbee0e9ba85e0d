"""Starting weights of a training: which are allowed, and which parts are used."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from stages.finetune_rap import start_with_decoder
from stages.training import start_from, starting_weights
from tvqrap.architecture import Architecture
from tvqrap.networks.tokenizer import Tokenizer
from tvqrap.networks.upscaler import UpscalerNetwork
from tvqrap.pretrained.folder import save_model
from tvqrap.pretrained.upscaler import check_frozen_parts, load_frozen_parts
from tvqrap.runtime.errors import UsageError, UserError

TINY = Architecture(width=0.0625, codebook=16, texture=4, structure=8)


@pytest.fixture
def given(tmp_path: Path) -> Path:
    save_model(tmp_path / "tokenizer", "tokenizer", Tokenizer(TINY), TINY, {})
    return tmp_path


def test_given_weights_may_have_another_codebook_and_nothing_else(given: Path) -> None:
    for architecture in (TINY, replace(TINY, codebook=8)):
        found = starting_weights(str(given), ("rap", "tokenizer"), architecture)
        assert found == given / "tokenizer"
    with pytest.raises(UserError, match="models/none"):
        starting_weights(str(given), ("tokenizer",), replace(TINY, structure=16))
    assert starting_weights(str(given), ("rap", "predictor"), TINY) is None
    with pytest.raises(UsageError, match="no folder"):
        starting_weights(str(given / "nothing"), ("rap",), TINY)


def test_a_predictor_with_another_tokenizer_inside_is_refused(given: Path) -> None:
    network = UpscalerNetwork(TINY)
    load_frozen_parts(given / "tokenizer", network)
    check_frozen_parts(network, Path("models/predictor"), given / "tokenizer")
    with torch.no_grad():
        network.codebook.embedding.weight[3, 0] += 1e-6
    with pytest.raises(UserError, match=r"models/predictor: codebook\.embedding\.weight differs"):
        check_frozen_parts(network, Path("models/predictor"), given / "tokenizer")


def test_a_decoder_to_be_trained_is_the_given_upscalers(given: Path) -> None:
    torch.manual_seed(0)
    network, earlier = UpscalerNetwork(TINY), UpscalerNetwork(TINY)
    own = {name: value.clone() for name, value in network.state_dict().items()}
    start_with_decoder(network, str(given))
    assert all(torch.equal(value, own[name]) for name, value in network.state_dict().items())
    save_model(given / "rap", "upscaler", earlier, TINY, {})
    start_with_decoder(network, str(given))
    given_weights = earlier.state_dict()
    for name, value in network.state_dict().items():
        source = given_weights if name.startswith("decoder.") else own
        assert torch.equal(value, source[name]), name


@pytest.mark.parametrize("network", [Tokenizer, UpscalerNetwork])
def test_another_codebook_keeps_its_own_rows_and_takes_the_rest(
    network: type[Tokenizer] | type[UpscalerNetwork],
) -> None:
    torch.manual_seed(0)
    start, other = network(TINY), network(replace(TINY, codebook=8))
    own = {name: value.clone() for name, value in other.state_dict().items()}
    start_from(start, other, same_codebook=False)
    taken = start.state_dict()
    for name, value in other.state_dict().items():
        source = own if value.shape != taken[name].shape else taken
        assert torch.equal(value, source[name]), name
    same = network(TINY)
    start_from(start, same, same_codebook=True)
    assert all(torch.equal(value, taken[name]) for name, value in same.state_dict().items())
