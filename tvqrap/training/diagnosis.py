"""Faults that the curves of a training show, and what to do about them."""

from collections.abc import Sequence
from statistics import median

from tvqrap.training.curves import History, Row

LOSSES = ("mse", "l1", "perceptual", "cross_entropy")
"""Terms that fall in a sound training; the others may rise."""
EARLIER_ROWS = 10
"""Least number of earlier rows with the same terms that a loss is compared with."""
ROWS = 500
"""Number of last rows of a curve that are examined."""
LAST_ROWS = 3
"""Number of last rows that must all show a fault."""
DIVERGED = 3.0
"""Ratio of a loss to the median of earlier rows above which it diverged."""
PSNR_FALL = 3.0
"""Fall of the validation PSNR below its best, in dB, above which the training diverged."""
CROSS_ENTROPY_RISE = 1.0
"""Rise of the validation cross-entropy above its best, in nats, above which the training
diverged."""
SATURATED = 0.02
"""Hinge loss below which the discriminator learns nothing more; it is 1 for constant outputs."""

_ADVICE = (
    "lower optimiser.learning_rate, or set optimiser.grad_clip_norm, and go on from a checkpoint "
    "before it (`tvqrap-cli runs`)"
)


def diagnose(history: History) -> dict[str, str]:
    """Returns a line for each fault of the present rows, by the fault's name.

    Rows are compared with earlier rows of the same columns alone: where a term begins, such as
    quantization or the GAN term, the losses jump.
    """
    found = {}
    steps, validation = _alike(history.steps), _alike(history.validation)
    for term in LOSSES:
        values = [row[term] for row in steps if term in row]
        earlier, last = values[:-LAST_ROWS], values[-LAST_ROWS:]
        if len(earlier) >= EARLIER_ROWS and min(last) > DIVERGED * median(earlier):
            found["diverged"] = (
                f"{term} is {last[-1]:.3g}, its median before was {median(earlier):.3g}: the "
                f"training diverges; {_ADVICE}"
            )
            break
    for name, sign, limit in (("psnr", 1, PSNR_FALL), ("cross_entropy", -1, CROSS_ENTROPY_RISE)):
        rows = [row for row in validation if name in row]
        best = max(rows, key=lambda row: sign * row[name], default=None)
        if best is not None and sign * (best[name] - rows[-1][name]) > limit:
            found["validation"] = (
                f"{name} of validation is {rows[-1][name]:.4g}, at step {best['step']:g} it was "
                f"{best[name]:.4g}: the training diverges or overfits; {_ADVICE}"
            )
    losses = [row["discriminator"] for row in steps[-LAST_ROWS:] if "discriminator" in row]
    if len(losses) == LAST_ROWS and max(losses) < SATURATED:
        found["saturated"] = (
            f"the discriminator's loss is {losses[-1]:.2g}: it tells all images apart, and the "
            "GAN term teaches nothing; lower image.adversarial.learning_rate or width, or give "
            "the term a later start"
        )
    return found


def _alike(rows: Sequence[Row]) -> list[Row]:
    """The last rows that have the same columns."""
    count = 0
    for row in reversed(rows[-ROWS:]):
        if row.keys() != rows[-1].keys():
            break
        count += 1
    return list(rows[len(rows) - count :])
