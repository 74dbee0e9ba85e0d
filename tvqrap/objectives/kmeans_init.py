"""The texture that k-means takes the first entries of a codebook from."""

KMEANS_BATCHES = 16
"""Batches whose texture k-means reads."""


def check_texture_suffices(
    codebook: int, *, vq_warmup_steps: int, batch: int, crop: int, texture: int
) -> None:
    """Checks that k-means reads as many texture vectors as there are entries, or more.

    K-means reads the last `KMEANS_BATCHES` batches of the warm-up and the batch after it. `crop` is
    the side of an HR crop, `texture` the side of a code, both in pixels.

    Raises:
        ValueError: There are fewer vectors than `codebook` entries.
    """
    batches = min(KMEANS_BATCHES, vq_warmup_steps + 1)
    vectors = batches * batch * (crop // texture) ** 2
    if codebook > vectors:
        raise ValueError(
            f"codebook is {codebook}; allowed are at most {vectors}, the texture vectors in the "
            f"{batches} batches that k-means starts it from (tokenizer.batch_size, crop size)"
        )
