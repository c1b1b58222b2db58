"""The demo: passages of the CIA World Factbook and their index."""
