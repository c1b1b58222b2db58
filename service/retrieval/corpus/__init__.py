"""The corpus: readers of passages, their table on disk, metadata fields and filters."""
