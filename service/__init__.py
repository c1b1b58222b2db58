"""The HTTP process: it loads one encoder and one index, and answers `POST /search` and `/encode`."""
