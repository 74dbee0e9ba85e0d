"""The three training tasks: losses, updates and validation."""
