"""What computes the transformer: one module a runtime behind the protocol in `runtime`."""
