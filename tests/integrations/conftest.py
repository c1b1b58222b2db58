"""What other people's frameworks need to behave in a test."""

import os

# Before it is imported, or Haystack tells its makers about this run.
os.environ["HAYSTACK_TELEMETRY_ENABLED"] = "false"
os.environ["LANGSMITH_TRACING"] = "false"
