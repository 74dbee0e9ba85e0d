"""What a codebook is started from where k-means sets its entries."""

KMEANS_BATCHES = 16
"""Batches of texture that k-means sees."""


def check_texture_suffices(
    codebook: int, *, vq_warmup_steps: int, batch: int, crop: int, texture: int
) -> None:
    """Raises ValueError where fewer texture vectors than `codebook` entries are seen by k-means.

    K-means sees the last `KMEANS_BATCHES` batches of the warm-up and the batch after it. `crop` is
    the side of an HR crop, `texture` the side of a code, both in pixels.
    """
    batches = min(KMEANS_BATCHES, vq_warmup_steps + 1)
    vectors = batches * batch * (crop // texture) ** 2
    if codebook > vectors:
        raise ValueError(
            f"codebook is {codebook}; allowed are at most {vectors}, the texture vectors in the "
            f"{batches} batches that k-means starts it from (tokenizer.batch, crop size)"
        )
