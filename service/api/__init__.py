"""The HTTP API: routes, schemas of requests and responses, the OpenAPI document, the page."""
