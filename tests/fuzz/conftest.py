"""A fixture that the fuzzing shares with the tests of the package."""

from tests.tvqrap.conftest import small_distance

__all__ = ["small_distance"]
