"""The paper profile's plan, worked out once for all tests: it takes seconds."""

from functools import cache

from stages.estimates import Plan, plan
from stages.params import load_params
from tests.support.paths import ROOT


@cache
def paper_plan() -> Plan:
    """What stages/profiles/paper.yaml takes."""
    return plan(load_params(ROOT / "stages/profiles/paper.yaml"))
