"""Retrieval quality of an encoder: measures, tasks, significance, comparison with a base."""
