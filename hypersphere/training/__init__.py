"""The training program: from a config to a trained model, and back.

Needs the extra `[train]`.
"""

from hypersphere.training._config import (
    DataConfig as DataConfig,
    LossConfig as LossConfig,
    ModelConfig as ModelConfig,
    OptimConfig as OptimConfig,
    TrainConfig as TrainConfig,
    check_command_line as check_command_line,
    describe as describe,
    from_json as from_json,
    to_json as to_json,
)
from hypersphere.training._loop import Loaded as Loaded, load as load, train as train
from hypersphere.training._run import DivergedError as DivergedError
