"""The paper profile's plan, worked out once for all tests: it takes seconds."""

from functools import cache
from pathlib import Path

from stages.params import load_params
from stages.plan import Plan, plan

ROOT = Path(__file__).parents[2]


@cache
def paper_plan() -> Plan:
    """What stages/profiles/paper.yaml takes."""
    return plan(load_params(ROOT / "stages/profiles/paper.yaml"))
