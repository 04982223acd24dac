"""The training program: from a config to a trained model, and back.

Needs the extra `[train]`.
"""
# ruff: noqa: E402  what is missing is told before it is imported

from hypersphere._extras import need

need("train", ("rich", "ml_collections", "orbax.checkpoint", "tensorboardX", "absl"))

from hypersphere.training._dry_run import dry_run as dry_run
from hypersphere.training._export import export as export
from hypersphere.training._trained import (
    Answers as Answers,
    Trained as Trained,
    open_trained as open_trained,
)
from hypersphere.training.compute._parts import (
    Images as Images,
    Parts as Parts,
    hooks as hooks,
    own_of as own_of,
)
from hypersphere.training.machine._cache import (
    use_compilation_cache as use_compilation_cache,
)
from hypersphere.training.machine._distributed import join as join
from hypersphere.training.machine._stop import (
    RESUME_STATUS as RESUME_STATUS,
    StoppedError as StoppedError,
)
from hypersphere.training.run._guard import DivergedError as DivergedError
from hypersphere.training.run._load import Loaded as Loaded, load as load
from hypersphere.training.run._loop import train as train
from hypersphere.training.run._workdir import (
    FREE_TO_CHANGE as FREE_TO_CHANGE,
    BusyError as BusyError,
    differences as differences,
)
from hypersphere.training.settings._config import (
    DataConfig as DataConfig,
    GuardConfig as GuardConfig,
    LossConfig as LossConfig,
    MeshConfig as MeshConfig,
    ModelConfig as ModelConfig,
    OptimConfig as OptimConfig,
    TrainConfig as TrainConfig,
)
from hypersphere.training.settings._durations import Duration as Duration
from hypersphere.training.settings._evaluation import Evaluation as Evaluation
from hypersphere.training.settings._text import (
    check_command_line as check_command_line,
    describe as describe,
    from_json as from_json,
    to_json as to_json,
)
