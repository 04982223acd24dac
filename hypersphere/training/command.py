"""What `train.py` does with its flags."""

import sys
from collections.abc import Sequence
from typing import Any

import jax
from absl import flags, logging
from ml_collections import config_flags

from hypersphere.training._cache import use_compilation_cache
from hypersphere.training._config import TrainConfig
from hypersphere.training._config_text import check_command_line, describe, to_json
from hypersphere.training._distributed import join
from hypersphere.training._dry_run import dry_run
from hypersphere.training._durations import Duration
from hypersphere.training._loop import train
from hypersphere.training._parts import own_of
from hypersphere.training._setup import resolved
from hypersphere.training._stop import RESUME_STATUS, StoppedError

# Other ways to write a flag.
_ALIASES = {
    "--config.print": "--print_config",
    "-config.print": "--print_config",
    "--dry-run": "--dry_run",
}


class _DurationParser(flags.ArgumentParser):
    """Steps as a number, anything else as it is; `resolve` checks it later."""

    syntactic_help = "steps, or a number and a unit: '5 epochs', '2.5%'"

    def parse(self, argument: int | str) -> int | str:
        text = str(argument)
        return int(text) if text.isdecimal() else text


def parse(arguments: list[str]) -> list[str]:
    """Parses a command line, after a check that names what a misspelt field is near to.

    Args:
        arguments: The words of the command line, the program's name first.

    Returns:
        The words that are no flags.

    Raises:
        SystemExit: With one line, if the command line or the config file is wrong.
    """
    config_flags.register_flag_parser_for_type(Duration, _DurationParser())
    words = [_ALIASES.get(word, word) for word in arguments]
    sys.argv[:] = words  # where ml_collections looks for the fields that are set
    try:
        check_command_line(words)
        return flags.FLAGS(words)
    except flags.Error as error:
        raise SystemExit(f"train.py: {_told(error)}") from error
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise SystemExit(f"train.py: {describe(error)}") from error


def _told(error: flags.Error) -> str:
    """The message; for a mistake in a config file its own, not what was made of it."""
    wrapped = error.__context__
    if "Error whilst parsing config file" in str(error) and wrapped is not None:
        if isinstance(wrapped.__context__, Exception):
            return describe(wrapped.__context__)
    return str(error)


def with_overrides(config: TrainConfig, overrides: Sequence[str]) -> TrainConfig:
    """A config with fields set as on the command line of `train.py`.

    Args:
        config: It stays as it is.
        overrides: `--config.FIELD=VALUE`.

    Returns:
        A new config.

    Raises:
        ValueError: If a field does not exist, or a value is of another type.

    Example:
        >>> from hypersphere import training
        >>> from hypersphere.training.command import with_overrides
        >>> with_overrides(training.TrainConfig(), ["--config.steps=9 epochs"]).steps
        '9 epochs'
    """
    check_command_line(overrides)
    config_flags.register_flag_parser_for_type(Duration, _DurationParser())
    words, values = ["", *overrides], flags.FlagValues()
    config_flags.DEFINE_config_dataclass(
        "config", config, flag_values=values, sys_argv=words
    )
    try:
        values(words)
    except flags.Error as error:
        raise ValueError(str(error)) from error
    return values.config


def run(config: TrainConfig, values: Any) -> int | str:
    """Trains a config, or shows what it would be.

    Args:
        config: The config.
        values: The flags of `train.py`.

    Returns:
        The exit status: 0, `RESUME_STATUS` after a signal, 130 after Ctrl-C; or, for a
        mistake, the one line that says which.
    """
    if not values["verbosity"].present:  # Orbax tells much at INFO
        logging.set_verbosity(logging.WARNING)
    try:
        _join(values)
        own = own_of(config_flags.get_config_filename(values["config"]))
        if values.print_config:
            sys.stdout.write(to_json(resolved(config, own.get("dataset"))))
            return 0
        use_compilation_cache()
        if values.dry_run:
            dry_run(config, target=values.target, images=values.images, **own)
            return 0
        if values.target or values.images:
            raise ValueError("--target and --images need --dry_run: nothing is run.")
        if not values.workdir:
            raise ValueError("Flag --workdir must be given: it is the run's folder.")
        train(config, values.workdir, allow_changes=values.allow_changes, **own)
        return 0
    except StoppedError as stopped:
        sys.stdout.write(f"{stopped}\n")
        return stopped.status
    except KeyboardInterrupt:
        sys.stdout.write("Interrupted; the same command resumes.\n")
        return 130
    except (ValueError, OSError, FloatingPointError, ModuleNotFoundError) as error:
        if logging.vlog_is_on(1):
            raise
        return f"train.py: {error}"
    except jax.errors.JaxRuntimeError as error:
        if logging.vlog_is_on(1) or jax.process_count() == 1:
            raise
        sys.stderr.write(
            f"train.py: process {jax.process_index()} of {jax.process_count()} failed, "
            f"perhaps because another one has: {str(error).splitlines()[0]}\n"
        )
        return RESUME_STATUS


def _join(values: Any) -> None:
    told = (values.coordinator, values.processes, values.process + 1)
    if values.distributed or any(told):
        join(
            values.coordinator,
            processes=values.processes,
            process=values.process,
            timeout=values.join_timeout,
            heartbeat=values.heartbeat,
        )
