"""A run in its bundle: paths, log, index, logs and metrics, receipt. Read and written here; nothing is started."""
