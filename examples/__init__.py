"""Examples: each folder is one, with its own data and commands."""
