"""Plain functions on bare arrays; nothing here knows a file, a volume or a recipe."""
