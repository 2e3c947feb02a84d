"""Data as shards, units and rows: files, formats, manifests, datasets, streams, the writer. No stage is run here."""
