"""Generations of an index: open, verify, publish, list, roll back, remove."""
