"""The parts of the graph of a transformer, built node by node."""
