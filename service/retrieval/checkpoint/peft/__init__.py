"""Adapters that other programs trained with the library `peft`, which change both sides."""
