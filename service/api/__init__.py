"""The HTTP API: one module a route, the request and response schemas, and the OpenAPI document."""
