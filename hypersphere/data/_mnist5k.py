"""The digits that ship with the package; `mnist5k.md` states source and licences."""

import importlib.resources

import numpy as np

from hypersphere.data._dataset import Dataset, ImageSet


def load_mnist5k() -> Dataset:
    """Reads 4,000 training and 1,000 test digits, 28 x 28 x 1."""
    file = importlib.resources.files("hypersphere.data") / "mnist5k.npz"
    with file.open("rb") as stream, np.load(stream) as arrays:
        train, test = (
            ImageSet(
                arrays[f"{split}_images"][..., np.newaxis],
                arrays[f"{split}_labels"].astype(np.int32),
            )
            for split in ("train", "test")
        )
    return Dataset("mnist5k", train, test, tuple("0123456789"))
