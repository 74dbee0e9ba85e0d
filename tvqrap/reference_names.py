"""Names of tensors in the authors' published checkpoints, and ours."""

from __future__ import annotations

import re

# Authors' prefix, ours, and the layers of the authors' list that ours begins and ends with.
_LISTS = (
    ("encoder.blocks.", "encoder.texture.", 0, 12),
    ("encoder.blocks.", "encoder.structure.", 13, 26),
    ("generator.blocks_1.", "structure_decoder.", 0, 14),
    ("generator.blocks_2.", "fuse.", 0, 3),
    ("generator.blocks_3.", "decoder.", 0, 18),
    ("lq_encoder.blocks.", "small_autoencoder.encoder.", 0, 8),
    ("lq_generator.blocks.", "small_autoencoder.decoder.", 0, 10),
    ("lqencoder.blocks.", "predictor.lr_encoder.texture.", 0, 9),
    ("lqencoder.blocks.", "predictor.lr_encoder.structure.", 10, 15),
    ("exactor.blocks.", "predictor.structure_head.", 0, 3),
    ("blocks_fuse.", "predictor.code_head.fuse.", 0, 2),
    ("ft_layers_low.swin_blks.", "predictor.code_head.transformer.", 0, 1),
)
_SINGLE = {
    "quantize.embedding.weight": "codebook.embedding.weight",
    "idx_pred_layer_low.0.weight": "predictor.code_head.norm.weight",
    "idx_pred_layer_low.0.bias": "predictor.code_head.norm.bias",
    "idx_pred_layer_low.1.weight": "predictor.code_head.score.weight",
}
_WITHIN = (
    # The LR encoder alone has two groups in one layer; elsewhere the group is the layer.
    (r"^(predictor\.lr_encoder\.texture\.\d+)\.swin_blks\.(\d+)", r"\1.\2"),
    (r"\.swin_blks\.0", ""),
    (r"\.residual_group", ""),
    (r"\.conv_out\.", ".shortcut."),
    (r"\.attn\.", ".attention."),
    (r"\.relative_position_bias_table$", ".position_bias"),
)


def our_name(reference: str) -> str | None:
    """What the tensor `reference` of a published checkpoint is called here.

    Names of the tokenizer's parts are those in `Tokenizer`; names of the upscaler's are those in
    `UpscalerNetwork`, where codebook, structure decoder and decoder are called the same. None for
    tensors that are not learned (attention masks and indices).

    Raises:
        ValueError: The published checkpoints have no such tensor.
    """
    if reference.endswith((".attn_mask", ".relative_position_index")):
        return None
    if reference in _SINGLE:
        return _SINGLE[reference]
    for theirs, ours, first, last in _LISTS:
        match = re.match(rf"{re.escape(theirs)}(\d+)(\..+)", reference)
        if match and first <= int(match[1]) <= last:
            name = f"{ours}{int(match[1]) - first}{match[2]}"
            for pattern, replacement in _WITHIN:
                name = re.sub(pattern, replacement, name)
            return name
    raise ValueError(f"{reference!r} is no tensor of a published checkpoint")
