"""Tables of other systems: which files a version of one is made of, as its own library says. Nothing is read here."""
