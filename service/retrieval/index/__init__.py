"""Nearest-vector search: one protocol, and a module or folder for each backend."""
