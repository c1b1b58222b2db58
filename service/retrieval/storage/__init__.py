"""Storage of artifacts: files that are hashed, synced and published by a rename; the Hub."""
