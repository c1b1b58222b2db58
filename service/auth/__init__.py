"""Authentication and authorization: API keys, scopes, rate limits and quotas."""
