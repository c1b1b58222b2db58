"""A calibration for tests: relevance rises with the score alone, half at the background's mean."""

from pathlib import Path

from service.retrieval.relevance.calibration import Calibration, write_calibration

STEEP = [0.0, 1.0, 0.0, 0.0, 0.0]


def calibration_for(fingerprint: str) -> Calibration:
    """Return a calibration for a query side."""
    return Calibration(
        fingerprint=fingerprint, scale=0.01, best=STEEP, other=STEEP, short=STEEP[:2]
    )


def calibrate(index: Path, fingerprint: str) -> Path:
    """Give an index a calibration of its own."""
    write_calibration(index / "calibration.json", calibration_for(fingerprint))
    return index
