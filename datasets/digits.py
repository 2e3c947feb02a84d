"""1,797 handwritten digits, images of 8 x 8 pixels, which scikit-learn ships.

Source: E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI Machine Learning Repository, 1998.
Columns: id (int64), image (8 x 8 uint8, 0 white to 16 black), label (int64, 0 to 9).
"""

from __future__ import annotations

from collections.abc import Iterator

import pyarrow as pa

from runner import Dataset

SHARDS = 4


def make() -> Iterator[pa.Table]:
    """Four tables, so four shards."""
    import numpy as np
    from sklearn.datasets import load_digits

    digits = load_digits()
    for ids in np.array_split(np.arange(len(digits.images)), SHARDS):
        pixels = pa.array(digits.images[ids].astype("uint8").ravel())
        images = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(pixels, 8), 8)
        yield pa.table({"id": ids, "image": images, "label": digits.target[ids].astype("int64")})


dataset = Dataset(make=make)
