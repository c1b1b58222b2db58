"""The report of an evaluation: JSON, Markdown tables, and an HTML page with plots."""
