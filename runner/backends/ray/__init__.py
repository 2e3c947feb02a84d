"""A Ray cluster that is there already: jobs of its Jobs API."""
