"""Generations of an index: open, verify, publish, roll back."""
