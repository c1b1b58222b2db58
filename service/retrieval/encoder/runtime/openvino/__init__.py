"""The encoder on a CPU by OpenVINO: exported, optionally in int8, checked against torch."""
