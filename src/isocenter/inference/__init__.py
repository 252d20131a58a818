"""Running networks: preparation, memory, windows, runtimes."""
