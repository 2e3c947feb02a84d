"""What a run on Kubernetes waits for, since when, and what helps."""
