"""Attacks that an operator or a thief could run with what he holds. No key is in reach here: it only scores."""
