"""Architecture: what is allowed, and the numbers that follow."""

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tvqrap.architecture import STRUCTURES, TEXTURES, WIDTHS, Architecture, norm_groups


def test_the_defaults_are_the_papers() -> None:
    arch = Architecture()
    assert (arch.texture_channels, arch.structure_channels, arch.heads) == (256, 64, 8)
    assert (arch.lr_multiple, arch.hr_multiple) == (32, 128)
    assert (arch.structure_levels, arch.structure_reduction) == (2, 8)
    assert norm_groups(64) == norm_groups(512) == 32


@pytest.mark.parametrize(
    ("texture", "structure", "levels", "hr_multiple"),
    [
        (8, None, 0, 64),
        (8, 8, 0, 64),
        (8, 16, 1, 128),
        (8, 32, 2, 128),
        (8, 64, 3, 128),
        (8, 128, 4, 128),
        (4, None, 0, 32),
        (4, 8, 1, 64),
        (4, 16, 2, 64),
        (4, 32, 3, 64),
        (4, 64, 4, 64),
        (4, 128, 5, 128),
    ],
)
def test_sizes(texture: int, structure: int | None, levels: int, hr_multiple: int) -> None:
    arch = Architecture(texture=texture, structure=structure)
    assert arch.structure_levels == levels
    assert arch.hr_multiple == hr_multiple
    assert arch.lr_multiple == hr_multiple // 4


@given(
    st.sampled_from(WIDTHS),
    st.integers(2, 65536),
    st.sampled_from(TEXTURES),
    st.sampled_from([None, *STRUCTURES]),
)
def test_every_allowed_network_divides(
    width: float, codebook: int, texture: int, structure: int | None
) -> None:
    arch = Architecture(width, codebook, texture, structure)
    assert Architecture.from_dict(arch.to_dict()) == arch
    for channels in (16, 32, 64, 128, 256, 512):
        assert arch.channels(channels) == channels * width
    assert arch.channels(128) % arch.heads == 0
    assert arch.hr_multiple % (8 * texture) == 0
    assert arch.hr_multiple % (structure or 1) == 0


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("width", 0.4, "0.375, 0.5"),
        ("width", 0, "0.0625"),
        ("width", 2.0, "0.875, 1"),
        ("width", "1", "0.875, 1"),
        ("width", True, "0.875, 1"),
        ("width", float("nan"), "0.875, 1"),
        ("codebook", 1, "2 to 65536"),
        ("codebook", 65537, "2 to 65536"),
        ("codebook", 512.0, "2 to 65536"),
        ("codebook", None, "2 to 65536"),
        ("texture", 16, "4 and 8"),
        ("structure", 4, "8, 16, 32, 64, 128 and none"),
        ("structure", "none", "8, 16, 32, 64, 128 and none"),
        ("swin_blocks", 3, "2, 4 and 6"),
        ("swin_blocks", None, "2, 4 and 6"),
        ("structure_width", 0.1, "none and k / 16 from 1/16 to 2"),
        ("structure_width", 2.5, "none and k / 16 from 1/16 to 2"),
    ],
)
def test_impossible_values_are_named(key: str, value: object, allowed: str) -> None:
    with pytest.raises(ValueError, match=rf"^{key} is .*; allowed are .*{allowed}") as caught:
        Architecture(**{key: value})  # type: ignore[arg-type]
    assert repr(value) in str(caught.value)


def test_from_dict_refuses_other_keys() -> None:
    with pytest.raises(ValueError, match="found width"):
        Architecture.from_dict({"width": 1.0})
    with pytest.raises(ValueError, match="depth"):
        Architecture.from_dict({**Architecture().to_dict(), "depth": 3})


def test_models_of_the_papers_depth_do_not_name_it() -> None:
    """So model folders and manifests from before the depth was a choice stay what they are."""
    paper, shallow = Architecture(), Architecture(swin_blocks=2)
    assert "swin_blocks" not in paper.to_dict()
    assert shallow.to_dict()["swin_blocks"] == 2
    for architecture in (paper, shallow):
        assert Architecture.from_dict(architecture.to_dict()) == architecture
    assert shallow.of_tokenizer == paper


def test_a_narrow_network_can_have_a_structure_of_the_papers_size() -> None:
    narrow, wide = Architecture(width=0.125), Architecture(width=0.125, structure_width=1.0)
    assert (narrow.structure_channels, wide.structure_channels) == (8, 64)
    assert narrow.texture_channels == wide.texture_channels
    assert "structure_width" not in narrow.to_dict()
    assert Architecture.from_dict(wide.to_dict()) == wide


def test_without_structure_there_is_nothing_to_reduce() -> None:
    with pytest.raises(ValueError, match="without structure"):
        _ = Architecture(structure=None).structure_reduction


def test_needs_no_torch() -> None:
    code = "import sys, tvqrap.architecture; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
