"""What a function is made of: modules as tables of statements, and what names reach. Nothing is executed."""
