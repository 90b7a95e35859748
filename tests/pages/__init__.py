"""README and the pages of docs, followed as a stranger would."""
