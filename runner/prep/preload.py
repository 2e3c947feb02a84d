"""What the workers of a preparation need, imported once by the server from which they are forked."""

from __future__ import annotations

#: Modules; pyarrow imports pandas at its first array.
MODULES = ("pandas", "pyarrow", "pyarrow.parquet", f"{__package__}.stage")
