"""A set of encoded images as one in memory."""

import functools
from io import BytesIO

import numpy as np
from absl import logging

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._identity import contents
from hypersphere.data._records import (
    Record,
    Records,
    RecordSet,
    patiently,
)


def load_records(
    opened: RecordSet,
    *,
    gray: bool,
    image_size: int,
    max_bad: float,
    orient: bool,
    max_pixels: int,
) -> Dataset:
    """Decodes every image of a set into memory, and tells which are broken."""
    from hypersphere.data._images import Encoded, decode_all
    from hypersphere.data._open_image import Decoding

    def encoded(records: Records, labels: np.ndarray) -> Encoded:
        def read(block: range) -> list[BytesIO]:
            some = _read(records, block)
            labels[block.start : block.stop] = [record.label for record in some]
            return [BytesIO(record.content) for record in some]

        return Encoded(len(records), read, records.name)

    parts = (opened.train, opened.test)
    labels = [np.empty(len(records), np.int32) for records in parts]
    decoded = decode_all(  # which also fills in `labels`, so each record is read once
        [encoded(*part) for part in zip(parts, labels, strict=True)],
        who=opened.name,
        gray=gray,
        image_size=image_size,
        how=Decoding(orient, max_pixels),
        max_bad=max_bad,
    )
    for part in decoded:
        for name in part.left_out:
            logging.warning("Left out, cannot be decoded: %s", name)
    train, test = (
        ImageSet(part.images, found[part.kept])
        for part, found in zip(decoded, labels, strict=True)
    )
    # Of the files: decoders of other releases give slightly other pixels.
    return Dataset(opened.name, train, test, opened.class_names, contents(opened))


def _read(records: Records, block: range) -> list[Record]:
    """Reads many at once where the records know a faster way than one by one."""
    many = getattr(records, "__getitems__", None)
    if many:
        return patiently(lambda: many(block))
    return [patiently(functools.partial(records.__getitem__, index)) for index in block]
