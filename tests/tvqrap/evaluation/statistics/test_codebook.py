"""Usage and perplexity of codes."""

import numpy as np
import pytest

from tvqrap.evaluation.statistics.codebook import code_use


def test_equal_use_has_the_perplexity_of_its_number() -> None:
    use = code_use(np.arange(8, dtype=np.uint16).reshape(2, 4), codebook=16)
    assert use.usage == 0.5
    assert use.perplexity == pytest.approx(8)


def test_one_code_alone() -> None:
    use = code_use(np.full((3, 3), 7, dtype=np.uint16), codebook=8)
    assert (use.usage, use.perplexity) == (1 / 8, 1.0)


@pytest.mark.parametrize("codes", [[], [-1], [8]])
def test_impossible_codes_are_refused(codes: list[int]) -> None:
    with pytest.raises(ValueError, match="codes"):
        code_use(np.array(codes, dtype=np.int64), codebook=8)
