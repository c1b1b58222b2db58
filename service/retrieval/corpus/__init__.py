"""Passages: reading them, their table on disk, fields and filters."""
