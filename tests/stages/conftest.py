"""Fixtures that the tests of the stages share with those of the pipeline."""

from tests.pipeline.conftest import data, memory, pairs, s3, s3_server

__all__ = ["data", "memory", "pairs", "s3", "s3_server"]
