"""Scores with protocol and intervals, and pictures to look at."""
