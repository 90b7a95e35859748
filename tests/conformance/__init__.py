"""What clients may ask of a server of the Open Inference Protocol, as data, and what answers."""
