"""Pictures, sounds and clips of a stream: which part of each is taken, how it is decoded, and whole batches by several
threads."""
