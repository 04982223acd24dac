"""Image sets in memory, the order of their batches, and augmentation on the device.

`load` turns one string into a `Dataset` of uint8 images and integer labels.
`batch_indices` says which examples make up step k, and `augment` and `normalize` run
inside the compiled step.
"""

from hypersphere.data._augment import augment as augment, normalize as normalize
from hypersphere.data._dataset import Dataset as Dataset, ImageSet as ImageSet
from hypersphere.data._load import load as load
from hypersphere.data._order import (
    batch_indices as batch_indices,
    check_batch_size as check_batch_size,
    eval_batches as eval_batches,
)
