"""Reports of an evaluation: tables, plots, one HTML page."""
