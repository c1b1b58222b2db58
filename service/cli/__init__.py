"""The command line `clear-service`."""
