"""The settings of the service: one class, composed by topic."""
