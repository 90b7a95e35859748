"""What a fleet of cameras costs: many keys of one model on one server."""
