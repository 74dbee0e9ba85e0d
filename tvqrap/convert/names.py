"""Maps our names of tensors to those in the authors' published checkpoints. Torch-free."""

from __future__ import annotations

import re

PREDICTOR_PREFIXES = (
    "lqencoder.",
    "exactor.",
    "blocks_fuse.",
    "ft_layers_low.",
    "idx_pred_layer_low.",
)
"""Prefixes of the predictor's published names; all other names are the tokenizer's."""

# Our prefix, the authors' prefix, and the index of our first layer in the authors' list.
_LISTS = (
    ("encoder.texture.", "encoder.blocks.", 0),
    ("encoder.structure.", "encoder.blocks.", 13),
    ("structure_decoder.", "generator.blocks_1.", 0),
    ("fuse.", "generator.blocks_2.", 0),
    ("decoder.", "generator.blocks_3.", 0),
    ("small_autoencoder.encoder.", "lq_encoder.blocks.", 0),
    ("small_autoencoder.decoder.", "lq_generator.blocks.", 0),
    ("predictor.lr_encoder.texture.", "lqencoder.blocks.", 0),
    ("predictor.lr_encoder.structure.", "lqencoder.blocks.", 10),
    ("predictor.structure_head.", "exactor.blocks.", 0),
    ("predictor.code_head.fuse.", "blocks_fuse.", 0),
    ("predictor.code_head.transformer.", "ft_layers_low.swin_blks.", 0),
)
_SINGLE = {
    "codebook.embedding.weight": "quantize.embedding.weight",
    "predictor.code_head.norm.weight": "idx_pred_layer_low.0.weight",
    "predictor.code_head.norm.bias": "idx_pred_layer_low.0.bias",
    "predictor.code_head.score.weight": "idx_pred_layer_low.1.weight",
}
_WITHIN = (
    # The LR encoder alone has two Swin groups in one layer; elsewhere the layer is the group.
    (r"(\.\d+)\.(?=\d+\.)", r"\1.swin_blks."),
    (r"^(blocks_fuse\.1)\.", r"\1.swin_blks.0."),
    (r"^(\w+\.blocks(?:_\d)?\.\d+)\.(?=blocks\.)", r"\1.swin_blks.0."),
    (r"(swin_blks\.\d+)\.(?=blocks\.)", r"\1.residual_group."),
    (r"\.shortcut\.", ".conv_out."),
    (r"\.attention\.", ".attn."),
    (r"\.position_bias$", ".relative_position_bias_table"),
)


def reference_name(name: str) -> str:
    """The published name of a tensor of the paper's `Tokenizer` or `UpscalerNetwork`.

    Codebook, structure decoder and decoder have the same names in both networks.

    Raises:
        ValueError: These networks have no tensor of that name.
    """
    if name in _SINGLE:
        return _SINGLE[name]
    for prefix, published, first in _LISTS:
        match = re.match(rf"{re.escape(prefix)}(\d+)(\..+)", name)
        if match:
            found = f"{published}{int(match[1]) + first}{match[2]}"
            for pattern, replacement in _WITHIN:
                found = re.sub(pattern, replacement, found)
            return found
    raise ValueError(f"{name!r} is no tensor of the paper's networks")
