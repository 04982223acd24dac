"""What a run is made of, as numbers and words: configs, and their text.

Nothing here knows the name of a loss, a network or an optimizer: those are recipes.
"""

from hypersphere.training.settings._check import (
    check as check,
    check_cadences as check_cadences,
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
from hypersphere.training.settings._durations import (
    Duration as Duration,
    resolve as resolve,
    resolve_section as resolve_section,
)
from hypersphere.training.settings._evaluation import Evaluation as Evaluation
from hypersphere.training.settings._fields import (
    choose as choose,
    number as number,
    option as option,
    radians as radians,
)
from hypersphere.training.settings._head import HeadConfig as HeadConfig
from hypersphere.training.settings._recipe import (
    Recipe as Recipe,
    recipe as recipe,
)
from hypersphere.training.settings._rules import AXES as AXES, parse_rule as parse_rule
from hypersphere.training.settings._text import (
    check_command_line as check_command_line,
    describe as describe,
    flat as flat,
    from_json as from_json,
    to_json as to_json,
)
