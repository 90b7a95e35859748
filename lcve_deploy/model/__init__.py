"""The model as values: weights, precision, preprocessing, predictions, and the comparison of logits."""
