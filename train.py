"""Trains what a config file describes: python train.py --config=... --workdir=..."""

from absl import app, flags, logging
from ml_collections import config_flags

from hypersphere import training

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file; set any field by, say, --config.steps=200."
)
flags.DEFINE_string("workdir", None, "The run's folder; the same one resumes it.")
flags.mark_flags_as_required(["config", "workdir"])


def parse_flags(arguments: list[str]) -> list[str]:
    """Absl's parser, after a check that names what is nearest to a misspelt field."""
    try:
        training.check_command_line(arguments)
        return app.parse_flags_with_usage(arguments)
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise SystemExit(f"train.py: {training.describe(error)}") from error


def main(_: list[str]) -> None:
    """Trains; a user's mistake ends in one line, with --verbosity=1 in a traceback."""
    if not flags.FLAGS["verbosity"].present:  # Orbax tells much at INFO
        logging.set_verbosity(logging.WARNING)
    try:
        training.train(CONFIG.value, flags.FLAGS.workdir)
    except KeyboardInterrupt:
        raise SystemExit("Stopped; the same command resumes.") from None
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        if logging.vlog_is_on(1):
            raise
        raise SystemExit(f"train.py: {error}") from error


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
