"""The checks of `clear-service doctor`, and what each part of a service takes."""
