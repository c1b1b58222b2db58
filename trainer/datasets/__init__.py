"""Importing published data sets."""
