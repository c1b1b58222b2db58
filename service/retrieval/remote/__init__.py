"""An index at a URL of an object store: uploaded with hashes, pulled into a local copy."""
