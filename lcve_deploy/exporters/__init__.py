"""From a checkpoint to a graph: offline, at the model owner. Needs the extra ``export``.

Exporters are handed weights that are scrambled already; none of them can reach a key.
"""
