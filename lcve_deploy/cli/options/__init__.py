"""Options that several commands share: each group of them is one decorator, which hands over one value."""
