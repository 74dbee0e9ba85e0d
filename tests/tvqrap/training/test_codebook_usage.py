"""Usage of codes over a window, and when it is worth a warning."""

import math

import pytest
import torch

from tests.support.training import batch, image_losses, tokenizer_task
from tvqrap.training.codebook_usage import VECTORS_PER_ENTRY, CodeUsage, perplexity

CPU = torch.device("cpu")


def test_perplexity_is_the_number_of_codes_used_equally() -> None:
    assert perplexity(torch.tensor([5, 5, 0, 5, 5])).item() == pytest.approx(4)
    assert perplexity(torch.tensor([7, 0, 0])).item() == pytest.approx(1)
    uneven = perplexity(torch.tensor([3, 1])).item()
    assert uneven == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))


def test_a_window_is_what_came_since_the_last_look() -> None:
    usage = CodeUsage(4, CPU)
    usage.add(torch.tensor([2, 0, 0, 0]))
    usage.add(torch.tensor([0, 2, 0, 0]))
    assert usage.look() == pytest.approx({"codes_used": 0.5, "perplexity": 2, "dead_codes": 2})
    usage.add(torch.tensor([0, 0, 0, 9]))
    assert usage.look()["dead_codes"] == 3
    assert usage.look() == {}, "before the texture is quantized there is nothing to say"


@pytest.mark.parametrize(("used", "collapsed"), [(2, True), (8, False)])
def test_few_codes_are_a_collapse_once_there_were_enough_vectors(
    used: int, collapsed: bool
) -> None:
    usage, counts = CodeUsage(32, CPU), torch.zeros(32, dtype=torch.int64)
    counts[:used] = VECTORS_PER_ENTRY * 32 // used // 2
    usage.add(counts)
    usage.look()
    assert usage.collapse() is None, "half as many vectors as are judged"
    usage.add(counts)
    usage.look()
    assert usage.collapse() == (used / 32 if collapsed else None)
    assert usage.collapse() is None, "each look judges what is new"


def test_a_collapsing_codebook_says_what_to_change() -> None:
    task = tokenizer_task(
        image=image_losses(adversarial=0.0, perceptual=0.0),
        codebook_life={"vq_warmup_steps": 0, "revive_every": 0},
    )
    with torch.no_grad():
        task.tokenizer.codebook.embedding.weight[1:] = 1e3  # only the first is ever nearest
    task.update(batch(0), 0)
    numbers, warning = task.health()
    assert (numbers["dead_codes"], numbers["perplexity"]) == (15, pytest.approx(1))
    assert warning is not None
    for word in ("6.2% of the codebook", "tokenizer.codebook_life.vq_warmup_steps", "revive_every"):
        assert word in warning
