"""`README.md` of a set: a data set card, which follows from the manifest alone."""

import json
from collections.abc import Mapping
from typing import Any

from pipeline.shards.index import write_index
from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Location, write_text
from pipeline.storage.lock import Check
from tvqrap.architecture import SCALE
from tvqrap.runtime.text import printable

CARD = "README.md"

CARRIED = ("photographs", "licences", "sources")
"""Keys of the `extra` of a set of pairs that its tokens have too."""

_SIZES = (1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000, 1_000_000_000)
_SIZE_NAMES = ("1K", "10K", "100K", "1M", "10M", "100M", "1B")


def save_set(out: Location, manifest: Manifest, check: Check) -> None:
    """Writes index, card and, at last, the manifest beside the shards in `out`.

    `check` raises where this driver no longer holds the set.
    """
    write_index(out, manifest)
    write_text(out / CARD, card_of(manifest))
    check()
    manifest.save(out)
    check()  # a folder that vanished just now has been made anew, with the manifest alone


def card_of(manifest: Manifest) -> str:
    """Markdown with the front matter of the Hugging Face Hub."""
    parts = [
        _front_matter(manifest),
        f"# {manifest.set}: {_WHAT[manifest.kind]}",
        _table(_facts(manifest)),
        *_photographs(manifest),
        "## Degradation",
        "Each LR image has one of these presets, drawn with the given probability. Every draw is "
        "in the sample's `json` member and in `index.parquet`.",
        _table(_presets(manifest), ("preset", "probability")),
        _json(manifest.params.get("degradations", {})),
        "## Reading",
        _READING[manifest.kind],
        _INDEX,
    ]
    return "\n\n".join(parts) + "\n"


_WHAT = {
    "pairs": "HR crops and their degraded LR images",
    "tokens": "structure and texture codes of HR crops, with their LR images",
}

_READING = {
    "pairs": """```python
import webdataset

for sample in webdataset.WebDataset("000000.tar", shardshuffle=False).decode("rgb8"):
    sample["hr.png"]  # uint8 (H, W, 3)
    sample["lr0.png"]  # uint8 (H / 4, W / 4, 3)
    sample["json"]  # photograph, box, degradations
```""",
    "tokens": """```python
import webdataset

for sample in webdataset.WebDataset("000000.tar", shardshuffle=False).decode("rgb8"):
    sample["codes.npy"]  # uint16 (H / texture, W / texture)
    sample["structure.npy"]  # float16 (channels, H / structure, W / structure), unless it is none
    sample["lr0.png"]  # uint8 (H / 4, W / 4, 3)
    sample["json"]  # photograph, box, degradations
```""",
}

_INDEX = """`index.parquet` has a row for each sample, with its place in a shard.

```python
import pyarrow.parquet as pq

row = pq.read_table("index.parquet", filters=[("crop", "=", 0)]).slice(0, 1).to_pylist()[0]
with open(row["shard"], "rb") as shard:
    shard.seek(row["offset"])
    members = shard.read(row["size"])  # the part of the tar file that holds the sample
```"""


def _front_matter(manifest: Manifest) -> str:
    largest = next(
        (
            f"{low}<n<{high}" if low else f"n<{high}"
            for limit, low, high in zip(_SIZES, ("", *_SIZE_NAMES), _SIZE_NAMES, strict=False)
            if manifest.samples < limit
        ),
        "n>1B",
    )
    lines = [
        f"pretty_name: TVQ-RAP {manifest.kind}, {manifest.set}",
        "task_categories: [image-to-image]",
        "tags: [super-resolution, webdataset]",
        f"size_categories: ['{largest}']",
        "configs: [{config_name: default, data_files: '*.tar'}]",
    ]
    return "\n".join(("---", *lines, "---"))


def _facts(manifest: Manifest) -> dict[str, Any]:
    size, extra = manifest.crop_size, manifest.extra
    settings = manifest.params["settings"]
    total = sum(row.bytes for row in manifest.shards)
    facts: dict[str, Any] = {
        "samples": f"{manifest.samples:,} in {len(manifest.shards):,} shards, {total:,} bytes",
        "HR": f"{size}x{size} pixels, crop mode {settings.get('crop_mode', 'unknown')}, "
        f"target {settings.get('target', 'photo')}",
        "LR": f"{size // SCALE}x{size // SCALE} pixels, {manifest.variants} for each HR crop",
        "photographs": extra.get("photographs", "unknown"),
        "split": settings.get("split", "unknown"),
        "seeds": f"{manifest.params.get('seed')} (crops and degradation), "
        f"{manifest.params.get('split_seed')} (split)",
        "root digest": f"`{manifest.root}`",
    }
    if manifest.kind == "tokens":
        sizes = extra.get("architecture", {})
        facts |= {
            "pairs": f"root digest `{extra.get('pairs')}`",
            "tokenizer": f"fingerprint `{extra.get('tokenizer')}`",
            "architecture": ", ".join(f"{name} {value}" for name, value in sizes.items()),
            "extracted": f"on {extra.get('device')}, {extra.get('precision')}, "
            f"batches of {extra.get('batch')}",
            "codes": f"{extra.get('codes_used', 0):.1%} of the codebook in use, entropy "
            f"{extra.get('code_entropy')} nats, perplexity {extra.get('code_perplexity')}",
            "samples without tokens": len(extra.get("dropped", ())),
        }
    elif (teacher := manifest.params.get("teacher")) is not None:
        precision = manifest.params.get("teacher_precision", "float32")
        facts["teacher"] = f"fingerprint `{teacher}`, {precision}"
    return facts


def _photographs(manifest: Manifest) -> list[str]:
    """Licences and sources of the photographs, and how many were skipped, where any is known."""
    parts = ["## Photographs"]
    if licences := manifest.extra.get("licences"):
        parts += [
            "Licences of the photographs; `licences.parquet` names each with its source and "
            "author.",
            _table(licences, ("licence", "photographs")),
        ]
    else:
        parts.append("The licences of the photographs were not given.")
    if sources := manifest.extra.get("sources"):
        parts.append(_table(sources, ("source", "photographs")))
    if manifest.skipped:
        parts += [
            "Photographs that are not used, by reason, with N for numbers.",
            _table(manifest.skipped, ("reason", "photographs")),
        ]
    return parts


def _presets(manifest: Manifest) -> Mapping[str, Any]:
    given = manifest.params["settings"].get("degradation", {})
    return {given: 1} if isinstance(given, str) else given


def _table(rows: Mapping[str, Any], head: tuple[str, str] = ("", "")) -> str:
    lines = [head, ("---", "---"), *rows.items()]
    return "\n".join(f"| {_cell(name)} | {_cell(value)} |" for name, value in lines)


def _cell(value: Any) -> str:
    return printable(str(value)).replace("|", "\\|").replace("<", "&lt;")


def _json(value: Any) -> str:
    return f"```json\n{json.dumps(value, indent=1)}\n```"
