"""The small network in the package, so that upscaling works after `pip install`."""

from pathlib import Path

WEIGHTS = Path(__file__).parents[1] / "weights"
"""Folder of model folders like a run's `models`, in float16; README.md there is the model card."""

UPSCALER = WEIGHTS / "rap"
TOKENIZER = WEIGHTS / "tokenizer"
