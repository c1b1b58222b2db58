"""The service in other people's frameworks; each module needs the extra of its own name."""
