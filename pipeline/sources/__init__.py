"""Photographs as the source of pairs: listing, scanning, and splits."""
