"""Chunks: the parts of a document that is longer than its encoder reads, each a passage."""
