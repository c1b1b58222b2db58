"""Training of an encoder or an adapter: model, loop, run directory, export."""
