"""What all records say, the paper's own figures, and the claims that they decide."""
