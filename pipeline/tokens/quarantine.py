"""The quarantine: a folder of the samples that could not be used, each with the reason."""

import json
import traceback
from collections.abc import Collection

from pipeline.shards.tar import MEMBER, Sample
from pipeline.storage.location import Location, file_sizes, remove, write_text, written
from tvqrap.runtime.atomic import is_temporary

_ABOUT = "error.json"


class BadSampleError(Exception):
    """A sample that cannot be used.

    The message is the reason, the same on every machine; `__cause__` is the error behind it.
    """


def sweep_quarantine(folder: Location, kept: Collection[str]) -> None:
    """Removes the files of samples whose keys are not `kept`: those samples were used since.

    Only files that are named as `quarantine` names them, and temporary ones.
    """
    for name in file_sizes(folder):
        key, _, suffix = name.partition(".")
        own = suffix == _ABOUT or MEMBER.fullmatch(name) is not None
        if (own and key not in kept) or is_temporary(name):
            remove(folder / name)


def quarantine(folder: Location, shard: str, sample: Sample, error: BadSampleError) -> None:
    """Writes a sample's members to `folder` under their names in the shard, then `KEY.error.json`.

    The JSON file holds key, shard, reason, the error behind it and its traceback.
    """
    for suffix, payload in sorted(sample.members.items()):
        with written(folder / f"{sample.key}.{suffix}") as file:
            file.write(payload)
    about = {
        "key": sample.key,
        "shard": shard,
        "reason": str(error),
        "error": repr(error.__cause__ or error),
        "traceback": "".join(traceback.format_exception(error)),
    }
    write_text(folder / f"{sample.key}.{_ABOUT}", json.dumps(about, indent=1) + "\n")
