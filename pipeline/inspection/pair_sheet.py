"""A contact sheet of one stored pair: HR, its LR images, and outputs of a teacher."""

import json

from PIL import Image

from pipeline.shards.codec import decode_png
from pipeline.shards.index import SampleIndex
from pipeline.shards.tar import decoded_member
from pipeline.storage.location import Location
from tvqrap.evaluation.report.contact_sheet import SheetRow, contact_sheet
from tvqrap.runtime.errors import UserError
from tvqrap.runtime.text import printable


def pair_sheet(folder: Location, key: str) -> Image.Image:
    """A row with the images of the sample `key`, in the order of their names.

    Nothing but the sample is read where the set has an index. Raises `UserError` where there is no
    such sample, and where it is damaged.
    """
    sample = SampleIndex.open(folder).find([key])[key]
    names = sorted(name for name in sample.members if name.endswith(".png"))
    if not names:
        raise UserError(f"{folder}: sample {key} has no image")
    cells = [decoded_member(folder, sample, name, decode_png) for name in names]
    record = decoded_member(folder, sample, "json", json.loads)
    photo = record.get("photo") if isinstance(record, dict) else None
    label = printable(f"{key}: {photo}, box {record['box']}" if photo and "box" in record else key)
    return contact_sheet([name.removesuffix(".png") for name in names], [SheetRow(label, cells)])
