"""Identifiers: codes, numbers, acronyms and Latin names, which no translation changes."""
