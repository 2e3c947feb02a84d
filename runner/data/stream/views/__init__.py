"""Views: which rows come of a unit, and how many; the order of samples knows nothing else of them."""
