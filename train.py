"""Trains what a config file describes: python train.py --config=... --workdir=..."""

import sys

from absl import app, flags, logging
from ml_collections import config_flags

from hypersphere import training

CONFIG = config_flags.DEFINE_config_file(
    "config", None, "A file whose get_config() returns a TrainConfig. Any field can be "
    "set on the command line: --config.steps=200, --config.optim.learning_rate=0.01.",
)  # fmt: skip
flags.DEFINE_string(
    "workdir", None, "Folder for everything the run writes; the same one resumes it."
)


def parse_flags(arguments: list[str]) -> list[str]:
    """Names the nearest fields where one is misspelt."""
    try:
        training.check_overrides(arguments)
    except ValueError as error:
        sys.exit(f"train.py: {error}")
    flags.mark_flags_as_required(["config", "workdir"])
    return app.parse_flags_with_usage(arguments)


def main(_: list[str]) -> None:
    """Trains; a mistake of the user's ends in one line, or a traceback with -v=1."""
    if not flags.FLAGS["verbosity"].present:
        logging.set_verbosity(logging.WARNING)  # Orbax tells much at INFO
    try:
        training.train(CONFIG.value, flags.FLAGS.workdir)
    except KeyboardInterrupt:
        sys.exit("train.py: stopped; the same command resumes at the last checkpoint.")
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        if logging.vlog_is_on(1):
            raise
        sys.exit(f"train.py: {error}")


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
