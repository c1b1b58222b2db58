"""The HTTP process: one encoder, one index, `POST /search` and `POST /encode`."""
