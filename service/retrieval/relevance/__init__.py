"""The probability that a hit answers its query, computed from scores alone; encodes nothing."""
