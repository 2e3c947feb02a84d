"""Where runner itself lies and what it is called: whatever starts it elsewhere, or knows its own files, asks here."""

from __future__ import annotations

import sys
from pathlib import Path

#: The name of the package. No other line counts how deep it lies.
NAME = __name__.partition(".")[0]
#: Its folder; what is above it is to be on the path of whoever imports it.
PACKAGE = Path(str(sys.modules[NAME].__file__)).resolve().parent
