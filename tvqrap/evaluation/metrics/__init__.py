"""Image quality metrics and their weights."""
