"""What a codebook is started from where k-means sets its entries."""

KMEANS_BATCHES = 16
"""Batches of texture that k-means sees."""


def check_texture_suffices(
    codebook: int, *, unquantized: int, batch: int, crop: int, texture: int
) -> None:
    """Raises ValueError where fewer texture vectors than `codebook` entries are seen by k-means.

    It sees the last `KMEANS_BATCHES` of the `unquantized` steps' batches and the one after them: of
    HR crops with a side of `crop` pixels, `texture` pixels to a code.
    """
    batches = min(KMEANS_BATCHES, unquantized + 1)
    vectors = batches * batch * (crop // texture) ** 2
    if codebook > vectors:
        raise ValueError(
            f"codebook is {codebook}; allowed are at most {vectors}, the texture vectors in the "
            f"{batches} batches that k-means starts it from (tokenizer.batch, crop size)"
        )
