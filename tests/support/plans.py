"""The paper profile's plan, computed once for all tests because it takes seconds."""

from functools import cache

from stages.estimates import Plan, plan
from stages.params import load_params
from stages.profile import profile_path
from tests.support.paths import ROOT


@cache
def paper_plan() -> Plan:
    """The plan of the profile `paper`."""
    return plan(load_params(profile_path("paper", ROOT)))
