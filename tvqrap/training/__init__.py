"""The training engine and the three stages' objectives."""
