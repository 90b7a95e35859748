"""Options shared by several commands. Each group is one decorator, which passes one value to the command."""
