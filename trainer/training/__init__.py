"""Training an encoder or an adapter."""
