"""The search service: one encoder, one index, `POST /search` and `POST /encode`."""
