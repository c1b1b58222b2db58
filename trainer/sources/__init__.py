"""Reads published data sets; one module a format. Each yields an `Imported`."""
