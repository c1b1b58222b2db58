"""The demo: the passages of the CIA World Factbook, and their index."""
