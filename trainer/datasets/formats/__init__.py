"""One module a data set format; each has `import_<format>`."""
