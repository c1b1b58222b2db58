"""Vectors to nearest rows: one protocol, one backend a folder or module."""
