"""Python values as JSON and as text that say what they are; what annotations allow. No job is known here."""
