"""Trains what a config file describes: python train.py --config=... --workdir=..."""

from absl import app, flags
from ml_collections import config_flags

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="A config file; set any field by, say, --config.steps=200."
)
flags.DEFINE_string("workdir", None, "The run's folder; the same one resumes it.")
flags.DEFINE_boolean("dry_run", False, "Compile, show what it takes, and exit.")
flags.DEFINE_string("target", "", "Dry run for devices not here, as tpu:v5e:4x4.")
flags.DEFINE_string("images", "", "Its images: HxWxC,classes=K,examples=N.")
flags.DEFINE_boolean("print_config", False, "Show the config (--config.print), exit.")
flags.DEFINE_boolean("allow_changes", False, "Resume with other config or images.")
flags.DEFINE_boolean("despite_damage", False, "Start anew if no checkpoint is whole.")
flags.DEFINE_boolean("distributed", False, "Join the processes the cluster tells of.")
flags.DEFINE_string("coordinator", "", "HOST:PORT of process 0, where none tells.")
flags.DEFINE_integer("processes", 0, "How many processes there are.")
flags.DEFINE_integer("process", -1, "Which of them this is, from 0.")
flags.DEFINE_integer("join_timeout", 120, "Seconds to wait for the others.")
flags.DEFINE_integer("heartbeat", 30, "Seconds after which a silent one is dead.")
flags.mark_flag_as_required("config")


def parse_flags(arguments: list[str]) -> list[str]:
    """The program's parser; only for help absl's own, which needs no JAX."""
    if any(word.lstrip("-").startswith("help") for word in arguments):
        return app.parse_flags_with_usage(arguments)
    from hypersphere.training.command import parse

    return parse(arguments)


def main(arguments: list[str]) -> int | str:
    """Trains; a user's mistake ends in one line, with --verbosity=1 in a traceback."""
    from hypersphere.training.command import run

    return run(CONFIG.value, arguments[1:], flags.FLAGS)


if __name__ == "__main__":
    app.run(main, flags_parser=parse_flags)
