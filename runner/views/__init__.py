"""What screens show, computed in one place: listings, progress, documents, numbers as people read them."""
