"""Weights that later stages need: they are looked for before the first stage, not after days."""

from stages.params import Params
from tvqrap.evaluation.metrics.registry import METRICS


def missing_weights(params: Params) -> str | None:
    """One line with all weights of metrics and losses that are not found, and how to fetch them.

    None where nothing is missing. Files are looked for in the same folders as by the stages, and
    their checksums are compared. torch is imported only where weights are needed.
    """
    metrics = [name for name in params.evaluation.metrics if METRICS[name].weights]
    losses = [
        section
        for section in ("tokenizer", "rap")
        if (training := getattr(params, section)).steps
        and training.image.perceptual.weight
        and training.image.perceptual.network == "lpips_vgg"
    ]
    if not metrics and not losses:
        return None
    from tvqrap.evaluation.metrics.pyiqa import unusable
    from tvqrap.losses.perceptual_weights import missing_lpips_vgg

    reasons = {name: reason for name in metrics if (reason := unusable(name)) is not None}
    listed = [f"{name} {_short(reason)}" for name, reason in reasons.items()]
    advice = []
    if reasons:
        advice.append(
            f"`tvqrap-cli metrics --fetch {' '.join(reasons)}` fetches those of "
            "evaluation.metrics, or take these names out of it"
        )
    if losses and (files := missing_lpips_vgg()):
        keys = " and ".join(f"{section}.image.perceptual.network" for section in losses)
        listed.append(f"lpips_vgg ({keys}) needs {' and '.join(files)}")
        advice.append("docs/paper-scale.md says where those of lpips_vgg come from")
    return f"weights are missing: {', '.join(listed)}; {'; '.join(advice)}" if listed else None


def _short(reason: str) -> str:
    return reason.partition(", not found")[0].partition("; ")[0]
