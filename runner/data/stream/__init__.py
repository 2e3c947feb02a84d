"""The order of samples, and batches in that order, from manifest to tensor."""
