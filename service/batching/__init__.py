"""Dynamic batching: joins the texts of concurrent requests; knows nothing of encoders."""
