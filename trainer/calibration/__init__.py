"""Calibration of relevance on evaluation sets, and what it is worth on those it has not seen."""
