"""Evidence: the part of a passage that answers a query best, found by vectors of its segments."""
