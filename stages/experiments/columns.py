"""The columns of scores that recipes can show: those of `evaluate`, and the structure's share."""

from tvqrap.evaluation import summary
from tvqrap.evaluation.summary import Column

SHARE = "structure_share"

COLUMNS = {**summary.COLUMNS, SHARE: Column("share of the structure", None, 3)}
"""`SHARE`: the part of the decoder's input that the structure carries (Figure 9 of the paper). Only
tokenizers that are scored alone have it."""
