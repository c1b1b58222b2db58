"""Dynamic batching: a queue with two lanes and an owner thread; knows nothing of encoders."""
