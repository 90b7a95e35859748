"""Attacks that an operator or a thief could run. They have no access to a key, which is used only to score them."""
