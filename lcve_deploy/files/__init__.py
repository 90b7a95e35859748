"""Read files from outside within limits, and write files whole or not at all."""
