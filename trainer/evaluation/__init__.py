"""Retrieval quality: tasks, measures, significance."""
