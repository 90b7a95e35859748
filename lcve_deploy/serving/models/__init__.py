"""The models that are served: versions found, loaded, proven, batched and counted."""
