"""Moving digits: a small model that recognises how a handwritten digit moves, its data and a demo."""
