"""`sets.json` beside the sets of pairs: which they are, for those that need no more of them.

A stage that reads tokens alone can thus tell whether they were made from these pairs without
depending on the pair shards, which may be a thousand times larger and elsewhere.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from pipeline.shards.manifest import Manifest
from pipeline.storage.location import Location, StorageError
from tvqrap.runtime.errors import UserError

SETS = "sets.json"


@dataclass(frozen=True)
class PairSet:
    """What tokens of a set of pairs have to have been made from."""

    root: str
    """Of the pairs' manifest."""
    size: int
    """Side of the HR crops in pixels."""

    @classmethod
    def of(cls, manifest: Manifest) -> "PairSet":
        """That of the set that a manifest describes."""
        return cls(manifest.root, int(manifest.params["settings"]["size"]))


def pair_sets_text(manifests: Iterable[Manifest]) -> str:
    """Content of `sets.json` for these sets of pairs."""
    listed = {manifest.set: asdict(PairSet.of(manifest)) for manifest in manifests}
    return json.dumps(listed, indent=1, sort_keys=True) + "\n"


def listed_pair_set(folder: Location, name: str) -> PairSet:
    """What `sets.json` in a folder says of a set. Raises `UserError` where it says nothing."""
    path = folder / SETS
    try:
        return PairSet(**json.loads(path.read_bytes())[name])
    except FileNotFoundError:
        raise UserError(f"{path}: not found, expected the list of the sets of pairs") from None
    except StorageError:
        raise
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: found no root and size of the set {name} ({error!r})") from None
