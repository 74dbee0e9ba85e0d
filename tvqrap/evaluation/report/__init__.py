"""The evaluation report: page, tables and pictures."""
