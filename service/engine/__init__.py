"""The engine: answers search and encode requests; knows nothing of HTTP."""
