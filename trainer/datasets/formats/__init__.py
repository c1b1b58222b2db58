"""Formats of published data sets: a module each, with a function `import_<format>`."""
