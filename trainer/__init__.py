"""Trains and evaluates encoders offline; of the service it imports `service.retrieval` alone."""
