"""The encoder on a CPU with OpenVINO: exported, optionally in int8, checked against torch."""
