"""Attacks that an operator or a thief could run with what they hold. No key is in reach here: it only scores."""
