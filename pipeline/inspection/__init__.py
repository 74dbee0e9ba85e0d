"""Inspection of sets: verification, statistics, differences, previews, estimates."""
