"""Ablations: training runs of variants and seeds, compared in a table and a plot."""
