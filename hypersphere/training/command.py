"""What `train.py` does with its flags."""

import ast
import contextlib
import copy
import errno
import functools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from absl import flags, logging
from ml_collections import config_flags

from hypersphere.training._dry_run import dry_run
from hypersphere.training.compute._parts import own_of
from hypersphere.training.machine._cache import use_compilation_cache
from hypersphere.training.machine._distributed import join
from hypersphere.training.machine._stop import RESUME_STATUS, StoppedError
from hypersphere.training.run._loop import train
from hypersphere.training.run._setup import resolved
from hypersphere.training.settings._config import TrainConfig
from hypersphere.training.settings._durations import Duration
from hypersphere.training.settings._evaluation import Evaluation, Evaluations
from hypersphere.training.settings._fields import PerChannel
from hypersphere.training.settings._recipe import fields_of, sections
from hypersphere.training.settings._text import (
    check_command_line,
    describe,
    known_paths,
    to_json,
)

# Other ways to write a flag.
_ALIASES = {
    "--config.print": "--print_config",
    "-config.print": "--print_config",
    "--dry-run": "--dry_run",
}

Say = Callable[[str], Any]

# Errors of the system that another moment may not have.
_PASSING = {
    getattr(errno, name)
    for name in "EIO ESTALE ETIMEDOUT ENETDOWN ENETUNREACH EHOSTDOWN EHOSTUNREACH "
    "ENOTCONN EREMOTEIO".split()
    if hasattr(errno, name)  # not every system has all
}

_VALUE = re.compile(r"[^-]|-\.?\d")  # no flag, or a negative number
_FIELD = re.compile(r"--?(?P<no>no)?config\.(?P<path>[^=]+)(?:=(?P<value>.*))?", re.S)


class _DurationParser(flags.ArgumentParser):
    """Steps as a number, anything else as it is; `resolve` checks it later."""

    syntactic_help = "steps, or a number and a unit: '5 epochs', '2.5%'"

    def parse(self, argument: int | str) -> int | str:
        text = str(argument)
        return int(text) if text.isdecimal() else text


class _PerChannelParser(flags.ArgumentParser):
    """A number, or a tuple of them."""

    syntactic_help = "a number, or one for each channel: (123.7, 116.3, 103.5)"

    def parse(self, argument: Any) -> float | tuple[float, ...]:
        found = argument
        try:
            if isinstance(argument, str):
                found = ast.literal_eval(argument)
            return tuple(map(float, found)) if np.ndim(found) else float(found)
        except (ValueError, SyntaxError, TypeError) as error:
            raise ValueError(f"needs {self.syntactic_help}") from error


class _EvaluationsParser(flags.ArgumentParser):
    """A tuple of texts, or one of them."""

    syntactic_help = "an evaluation, or a tuple: ('train every 5 epochs', ...)"

    def parse(self, argument: Any) -> tuple[Evaluation, ...]:
        entries = argument
        if isinstance(argument, str):
            with contextlib.suppress(ValueError, SyntaxError):
                entries = ast.literal_eval(argument)
        entries = (entries,) if isinstance(entries, str) else entries
        return tuple(map(Evaluation.of, entries))


def parse(arguments: list[str]) -> list[str]:
    """Parses a command line, after a check that names what a misspelt field is near to.

    Args:
        arguments: The words of the command line, the program's name first.

    Returns:
        The program's name, and the words that set fields, as `with_overrides` has them.

    Raises:
        SystemExit: With one line, if the command line or the config file is wrong.
    """
    words, fields = divided([_ALIASES.get(word, word) for word in arguments])
    try:
        check_command_line([*words, *fields])
        sys.argv[:] = words  # where ml_collections looks for the fields that are set
        name, *others = flags.FLAGS(words)
    except flags.Error as error:
        raise SystemExit(f"train.py: {_told(error)}") from error
    except (ValueError, OSError, TypeError, AttributeError) as error:
        raise SystemExit(f"train.py: {describe(error)}") from error
    if others:
        raise SystemExit(f"train.py: {others[0]!r} is no flag. Flags begin with --.")
    return [name, *fields]


def divided(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The words of a command line, and apart from them those that set fields.

    Args:
        arguments: The words; a field and its value may be two.

    Returns:
        Both in their order, of fields and values one word each.

    Example:
        >>> from hypersphere.training.command import divided
        >>> divided(["--workdir=x", "--config.steps", "9", "--noconfig.data.flip"])
        (['--workdir=x'], ['--config.steps=9', '--noconfig.data.flip'])
    """
    words, fields, left = [], [], list(arguments)
    while left:
        word = left.pop(0)
        parts = _FIELD.fullmatch(word)
        if not parts:
            words.append(word)
            continue
        is_whole = parts["value"] is not None or parts["no"]
        if not is_whole and left and _VALUE.match(left[0]):
            word += "=" + left.pop(0)
        fields.append(word)
    return words, fields


def _told(error: flags.Error) -> str:
    """The message; for a mistake in a config file its own, not what was made of it."""
    wrapped = error.__context__
    if "Error whilst parsing config file" in str(error) and wrapped is not None:
        if isinstance(wrapped.__context__, Exception):
            return describe(wrapped.__context__)
    return str(error)


def with_overrides(
    config: TrainConfig,
    overrides: Sequence[str],
    say: Say = lambda line: None,
) -> TrainConfig:
    """A config with fields set as on the command line of `train.py`.

    Recipes are chosen first, wherever they stand: `--config.loss=ga_softmax` starts
    that section afresh, `--config.loss.name=ga_softmax` keeps what both have.

    Args:
        config: It stays as it is.
        overrides: `--config.FIELD=VALUE`.
        say: Is called with a line that tells which fields a fresh section has lost.

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
    config, paths = copy.deepcopy(config), known_paths()
    unknown, fields = divided(overrides)
    if unknown:
        raise ValueError(f"{unknown[0]!r} sets no field. Write `--config.FIELD=VALUE`.")
    found = [_FIELD.fullmatch(word) for word in fields]
    given = [(paths[p["path"]], p["no"], p["value"]) for p in found if p is not None]
    choices = [(path, name) for path, _, name in given if _is_choice(path)]
    for path, name in sorted(choices, key=lambda choice: _depth(choice[0])):
        _choose(config, path, name or "", say)
    return _with_fields(config, [each for each in given if not _is_choice(each[0])])


def _is_choice(path: str) -> bool:
    return path.removesuffix(".name") in sections()


def _depth(path: str) -> int:
    return path.removesuffix(".name").count(".")


def _choose(config: TrainConfig, path: str, name: str, say: Say) -> None:
    """Makes a section the recipe of a name; afresh, unless `path` is of its `.name`."""
    owner, _, field = f".{path.removesuffix('.name')}".rpartition(".")
    section = _at(config, owner)
    before = getattr(section, field)
    if path.endswith(".name"):
        before.name = name
        return
    setattr(section, field, {"name": name})
    if lost := before.set_fields():
        say(
            f"--config.{path}={name} starts that section afresh: "
            f"{', '.join(f'{path}.{k}={v!r}' for k, v in lost.items())} no longer "
            f"count. --config.{path}.name={name} keeps what both have."
        )


def _at(config: Any, path: str) -> Any:
    return functools.reduce(getattr, filter(None, path.split(".")), config)


def _with_fields(
    config: TrainConfig, given: list[tuple[str, str | None, str | None]]
) -> TrainConfig:
    """A copy with fields set by words of their types; another recipe's are refused."""
    words = [""]
    for path, no, value in given:
        owner, _, field = path.rpartition(".")
        section = _at(config, owner)
        if field not in fields_of(type(section)):  # that of another recipe
            raise ValueError(section.lacking(field))
        sign = "" if value is None else f"={value}"
        words.append(f"--{no or ''}config.{path}{sign}")
    for kind, parser in _PARSERS.items():
        config_flags.register_flag_parser_for_type(kind, parser())
    values = flags.FlagValues()
    config_flags.DEFINE_config_dataclass(
        "config", config, flag_values=values, sys_argv=words
    )
    try:
        values(words)
    except flags.Error as error:
        raise ValueError(str(error)) from error
    return values.config


_PARSERS: dict[Any, type[flags.ArgumentParser]] = {
    Duration: _DurationParser,
    PerChannel: _PerChannelParser,
    Evaluations: _EvaluationsParser,
}


def run(config: TrainConfig, overrides: Sequence[str], values: Any) -> int | str:
    """Trains a config, or shows what it would be.

    Args:
        config: The config.
        overrides: Fields to set, as `parse` returns them.
        values: The flags of `train.py`.

    Returns:
        The exit status: 0, `RESUME_STATUS` after a signal, 130 after Ctrl-C; or, for a
        mistake, the one line that says which.
    """
    if not values["verbosity"].present:  # Orbax tells much at INFO
        logging.set_verbosity(logging.WARNING)
    try:
        config = with_overrides(config, overrides, _say)
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
        train(
            config,
            values.workdir,
            allow_changes=values.allow_changes,
            despite_damage=values.despite_damage,
            **own,
        )
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
        if not may_pass(error):
            return f"train.py: {error}"
        sys.stderr.write(f"train.py: {error}\n")
        return RESUME_STATUS
    except jax.errors.JaxRuntimeError as error:
        if logging.vlog_is_on(1) or jax.process_count() == 1:
            raise
        sys.stderr.write(
            f"train.py: process {jax.process_index()} of {jax.process_count()} failed, "
            f"perhaps because another one has: {str(error).splitlines()[0]}\n"
        )
        return RESUME_STATUS


def may_pass(error: BaseException) -> bool:
    """Whether what has ended a run may be gone when it is started again.

    By its cause, whatever it was made into: another process or a network that failed.

    Args:
        error: What was raised.

    Returns:
        Whether a restart can help.

    Example:
        >>> from hypersphere.training.command import may_pass
        >>> may_pass(ValueError("a mistake")), may_pass(ConnectionError("too late"))
        (False, True)
    """
    cause: BaseException | None = error
    while cause is not None:
        several = jax.process_count() > 1
        if several and isinstance(cause, jax.errors.JaxRuntimeError):
            return True
        if isinstance(cause, ConnectionError) or getattr(cause, "errno", 0) in _PASSING:
            return True
        cause = cause.__cause__
    return False


def _say(line: str) -> None:
    sys.stderr.write(f"train.py: {line}\n")


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
