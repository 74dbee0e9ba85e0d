"""The paper's ablations as recipes: points of a figure or table, run through DVC."""
