"""The command line: one file for each command; heavy imports stay inside the commands."""
