"""Fixtures that the tests of the stages share with others."""

from tests.pipeline.conftest import data, memory, pairs, s3, s3_server
from tests.tvqrap.conftest import small_distance

__all__ = ["data", "memory", "pairs", "s3", "s3_server", "small_distance"]
