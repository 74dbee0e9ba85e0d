"""Descriptions of a model: a card for people, as the Hugging Face Hub shows it, and an entry of
OpenModelDB, the catalogue of upscalers."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic_core import from_json

from tvqrap.architecture import SCALE
from tvqrap.config.evaluation import MetricName
from tvqrap.evaluation.metrics.registry import METRICS
from tvqrap.pretrained.folder import ModelConfig, read_config, read_state
from tvqrap.pretrained.single_file import is_single_file, read_single_config
from tvqrap.runtime.documents import read_regular
from tvqrap.runtime.errors import UserError

SCORES = "metrics.json"
"""File of the means that `tvqrap-cli evaluate` writes."""
PAPER = "https://arxiv.org/abs/2509.23774"
_TAGS = ("super-resolution", "image-to-image", "vector-quantization", "pytorch", "safetensors")


def model_card(folder: Path, name: str | None = None, licence: str | None = None) -> str:
    """The README.md of an upscaler's folder: YAML front matter, then Markdown.

    `name` is that of the hub's repository ("user/model"); `licence` is an identifier of the hub,
    such as apache-2.0. Scores are those of a `metrics.json` in the folder. Raises UserError where
    the folder holds no upscaler or the scores are broken.
    """
    config = read_config(folder)
    if config.kind != "upscaler":
        raise UserError(f"{folder}: holds a {config.kind}, expected an upscaler")
    parts = [
        _front_matter(licence),
        f"# {name or _title(config)}",
        "This model enlarges photographs four times. It is an upscaler of the method TVQ&RAP "
        f"(Li et al., [ICLR 2026]({PAPER})), trained with tvqrap.",
        _table(["property", "value"], _properties(folder, config)),
        _usage(name),
    ]
    if config.about:
        rows = [[f"`{key}`", _cell(value)] for key, value in config.about.items()]
        parts += ["## Training", _table(["`model.json`", "value"], rows)]
    scores = folder / SCORES
    if scores.exists():
        parts += ["## Scores", _scores(scores)]
    return "\n\n".join(parts) + "\n"


def open_model_db_entry(
    file: Path, *, name: str, author: str, licence: str | None, urls: Sequence[str]
) -> dict[str, Any]:
    """The entry of OpenModelDB for a single file of ours, as its JSON schema has it.

    `licence` is an SPDX expression, such as Apache-2.0; `urls` are where the file can be had. The
    date is today's. Raises UserError where the file is none that `write_single_file` writes.
    """
    if not file.is_file() or not is_single_file(file):
        raise UserError(
            f"{file}: expected a file that tvqrap-cli export --format safetensors writes"
        )
    config = read_single_config(file)
    content = read_regular(file)
    steps = config.about.get("steps")
    return {
        "name": name,
        "author": author,
        "license": licence,
        "tags": ["photo", "research"],
        "description": (
            "Enlarges photographs four times, by texture vector quantization and "
            f"reconstruction-aware prediction ([TVQ&RAP]({PAPER})). spandrel reads the file with "
            "the plug-in of the Python package tvqrap."
        ),
        "date": datetime.date.today().isoformat(),
        "architecture": "tvqrap",
        "size": [f"width {config.architecture.width:g}", f"{config.architecture.codebook} codes"],
        "scale": SCALE,
        "inputChannels": 3,
        "outputChannels": 3,
        "resources": [
            {
                "platform": "pytorch",
                "type": "safetensors",
                "size": len(content),
                "sha256": hashlib.sha256(content).hexdigest(),
                "urls": list(urls),
            }
        ],
        **({"trainingIterations": steps} if isinstance(steps, int) else {}),
        "images": [],
    }


def _front_matter(licence: str | None) -> str:
    lines = [] if licence is None else [f"license: {licence}"]
    lines += ["library_name: tvqrap", "pipeline_tag: image-to-image", "tags:"]
    lines += [f"  - {tag}" for tag in _TAGS]
    return "\n".join(["---", *lines, "---"])


def _title(config: ModelConfig) -> str:
    return f"tvqrap {config.fingerprint[:12]}"


def _properties(folder: Path, config: ModelConfig) -> list[list[str]]:
    state = read_state(folder)
    architecture = config.architecture
    dtypes = sorted({str(value.dtype).removeprefix("torch.") for value in state.values()})
    return [
        ["parameters", f"{sum(value.numel() for value in state.values()) / 1e6:.1f} M"],
        ["weights", ", ".join(dtypes)],
        ["width", f"{architecture.width:g} of the paper's network"],
        ["codebook", f"{architecture.codebook} entries, {config.assignment} assignment"],
        ["code map", f"1/{architecture.texture} of the HR side"],
        ["structure", f"1/{architecture.structure} of the HR side"],
        ["fingerprint", f"`{config.fingerprint[:12]}`"],
    ]


def _usage(name: str | None) -> str:
    model = name or "FOLDER"
    given = f"hf:{name}" if name else "FOLDER"
    return f"""## How to use

```python
from PIL import Image

from tvqrap import Upscaler

large = Upscaler.from_pretrained({model!r})(Image.open("photo.jpg"))
```

    tvqrap-cli upscale photo.jpg --model {given}"""


def _scores(file: Path) -> str:
    """A table of the means that `evaluate` has written: a row for each method."""
    try:
        means = from_json(read_regular(file))
        shown = [name for name in METRICS if any(name in scores for scores in means.values())]
        rows = [
            [_cell(model), *(_score(scores.get(name), name) for name in shown)]
            for model, scores in means.items()
        ]
    except (ValueError, AttributeError, TypeError):
        raise UserError(f"{file}: expected the means that tvqrap-cli evaluate writes") from None
    arrows = {"higher": " ↑", "lower": " ↓", None: ""}
    titles = [METRICS[name].title + arrows[METRICS[name].better] for name in shown]
    return _table(["method", *titles], rows)


def _score(value: float | None, metric: MetricName) -> str:
    return "" if value is None else f"{value:.{METRICS[metric].digits}f}"


def _cell(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return " ".join(text.replace("|", "\\|").split())


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
