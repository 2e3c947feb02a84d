"""One module a contestant, imported only in a process of its own; `interface` says what each has."""
