"""Who may ask what: API keys, their scopes, rates and quotas."""
