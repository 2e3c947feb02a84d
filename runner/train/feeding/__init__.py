"""The transform of a stage's batches: in the rank, or by helpers that work ahead of it. A gang starts those."""
