"""What scripts and the command line call: prepare, submit, the handle of a run. It prints nothing."""
