"""Intervals, paired comparisons and distributions of scores."""
