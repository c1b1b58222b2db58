"""Changes of documents over HTTP: accepted into a journal, applied in the background."""
