"""Checkpoints: what goes into one, its files, when one is made, and going on from one. Reading one runs no code."""
