"""Loss functions between images."""
