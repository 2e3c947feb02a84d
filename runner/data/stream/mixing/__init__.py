"""Mixtures: which source each position is served by, and from which place of the source's own order."""
