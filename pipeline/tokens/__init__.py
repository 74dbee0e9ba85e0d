"""Token datasets: structure and codes of every HR crop, extracted once."""
