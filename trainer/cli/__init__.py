"""The command line `clear-trainer`."""
