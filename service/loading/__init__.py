"""The time until the service is ready: a small process answers at its ports."""
