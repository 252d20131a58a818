"""The six stages, joined."""
