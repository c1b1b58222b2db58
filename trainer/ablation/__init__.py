"""Grids of variants and seeds."""
