"""Image sets, the order of their batches, and augmentation on the device.

`load` turns one string into a `Dataset` of uint8 images and integer labels in memory;
`open_records` into a `RecordSet` of encoded images, which `train_batches` and
`eval_stream` decode in the background. `batch_indices` says which examples make up step
k, for both. `augment`, `normalize` and `mix` run inside the compiled step.

`python -m hypersphere.data prepare --help` tells how to make sets that are read fast.
"""

from hypersphere.data._augment import augment as augment, normalize as normalize
from hypersphere.data._dataset import Dataset as Dataset, ImageSet as ImageSet
from hypersphere.data._erase import erase as erase
from hypersphere.data._examples import first_example as first_example
from hypersphere.data._identity import (
    contents as contents,
    with_classes as with_classes,
)
from hypersphere.data._load import load as load
from hypersphere.data._memory import MAX_PIXELS as MAX_PIXELS
from hypersphere.data._mix import Mixed as Mixed, mix as mix
from hypersphere.data._open import open_records as open_records
from hypersphere.data._order import (
    batch_indices as batch_indices,
    check_batch_size as check_batch_size,
    eval_batches as eval_batches,
)
from hypersphere.data._rand_augment import rand_augment as rand_augment
from hypersphere.data._records import (
    Record as Record,
    Records as Records,
    RecordSet as RecordSet,
    name_of as name_of,
)
from hypersphere.data._single import (
    image_files as image_files,
    read_image as read_image,
)
from hypersphere.data._sources import (
    is_source as is_source,
    is_streamed as is_streamed,
    streamed_forms as streamed_forms,
)
from hypersphere.data._stream import (
    Batch as Batch,
    batch_at as batch_at,
    eval_stream as eval_stream,
    train_batches as train_batches,
)
from hypersphere.data._synthetic import parse_spec as parse_spec
from hypersphere.data._validation import (
    with_fewer as with_fewer,
    with_validation as with_validation,
)
