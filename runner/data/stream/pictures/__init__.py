"""Pictures of a stream: which window of each is taken, how it is decoded, and whole batches by several threads."""
