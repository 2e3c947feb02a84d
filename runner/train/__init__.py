"""The training stage: what a rank has in hand, its data, metrics, meetings and watch."""
