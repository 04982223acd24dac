"""A set of encoded images as one in memory."""

from io import BytesIO

import numpy as np

from hypersphere.data._dataset import Dataset, ImageSet
from hypersphere.data._identity import contents
from hypersphere.data._records import Record, Records, RecordSet


def load_records(opened: RecordSet, *, gray: bool, image_size: int) -> Dataset:
    """Decodes every image of a set into memory."""
    from hypersphere.data._images import Encoded, decode_all

    def encoded(records: Records, labels: np.ndarray) -> Encoded:
        def read(block: range) -> list[BytesIO]:
            some = _read(records, block)
            labels[block.start : block.stop] = [record.label for record in some]
            return [BytesIO(record.content) for record in some]

        return Encoded(len(records), read, records.name)

    parts = (opened.train, opened.test)
    labels = [np.empty(len(records), np.int32) for records in parts]
    images = decode_all(  # which also fills in `labels`, so each record is read once
        [encoded(*part) for part in zip(parts, labels, strict=True)],
        who=opened.name,
        gray=gray,
        image_size=image_size,
    )
    train, test = (ImageSet(*pair) for pair in zip(images, labels, strict=True))
    # Of the files: decoders of other releases give slightly other pixels.
    return Dataset(opened.name, train, test, opened.class_names, contents(opened))


def _read(records: Records, block: range) -> list[Record]:
    """Reads many at once where the records know a faster way than one by one."""
    many = getattr(records, "__getitems__", None)
    return many(block) if many else [records[index] for index in block]
