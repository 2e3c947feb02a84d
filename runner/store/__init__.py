"""A folder on any fsspec URL: files created only if absent, the numbered log, who may read it."""
