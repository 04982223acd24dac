"""Runs every combination of a family, seed by seed, each once."""

import contextlib
import dataclasses
import json
import runpy
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax

from hypersphere.experiments._family import Family
from hypersphere.experiments._record import make_record, read_record, write_record
from hypersphere.experiments._report import report
from hypersphere.training import (
    FREE_TO_CHANGE,
    BusyError,
    DivergedError,
    TrainConfig,
    check_command_line,
    describe,
    differences,
    from_json,
    hooks,
    train,
)
from hypersphere.training.command import with_overrides

Say = Callable[[str], Any]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Job:
    """One run to be made.

    Args:
        family: The config file's name without its ending.
        choices: Its parameters.
        seed: The run's seed.
        config: What is trained.
        own: What the config file brings of its own, as `training.own_of` has it.
    """

    family: str
    choices: Mapping[str, Any]
    seed: int
    config: TrainConfig
    own: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def group(self) -> Path:
        """The folder of the family's runs of a scale, below `out` and `workdir`."""
        scale = self.choices.get("scale")
        return Path(scale, self.family) if scale else Path(self.family)

    @property
    def path(self) -> Path:
        """The run's place below `out` and `workdir`, without an ending."""
        return self.group / self.name / f"seed{self.seed}"

    @property
    def name(self) -> str:
        """The choices but the scale, as in a config's parameters."""
        pairs = (f"{k}={v}" for k, v in self.choices.items() if k != "scale")
        return ",".join(pairs) or "run"


def jobs_of(
    config: str, seeds: Sequence[int], overrides: Sequence[str] = ()
) -> list[Job]:
    """Every run of a config file: one seed of all combinations, then the next.

    Args:
        config: `FILE`, or `FILE:NAME=VALUE,...` for the combinations with these values.
        seeds: The seeds.
        overrides: `--config.FIELD=VALUE`, as `train.py` takes them.

    Returns:
        The runs in order.

    Raises:
        ValueError: If a parameter, a value or a field does not exist.
        FileNotFoundError: If the file does not exist.
    """
    check_command_line([f"--config={config}"])
    file, _, text = config.partition(":")
    if seeded := [o for o in overrides if o.startswith("--config.seed=")]:
        raise ValueError(f"The seeds are those of `--seeds`, got {seeded[0]} as well.")
    get_config, own = _load(Path(file))
    variants = get_config.variants(text) if isinstance(get_config, Family) else [{}]
    if text and variants == [{}]:
        raise ValueError(f"{file} has no parameters, got {text!r}. Leave them out.")
    jobs = []
    for seed in seeds:
        for choices in variants:
            pairs = ",".join(f"{name}={value}" for name, value in choices.items())
            with _named(file):
                made = get_config(pairs) if pairs else get_config()
            made = with_overrides(made, overrides)
            made.seed = seed
            jobs.append(
                Job(
                    family=Path(file).stem,
                    choices=choices,
                    seed=seed,
                    config=made,
                    own=own,
                )
            )
    return jobs


def run(
    jobs: Sequence[Job], *, out: Path | str, workdir: Path | str, say: Say
) -> list[Path]:
    """Makes the runs that have no record yet, and the tables and figures of all.

    A run that another process is making is left to it, so that several may share the
    work. One that was interrupted resumes at its checkpoint. One that diverges is
    recorded as such: that is a result.

    Args:
        jobs: The runs.
        out: Where records, tables and figures go: small files, worth keeping.
        workdir: Where the runs' own folders go.
        say: What is called with a line for people.

    Returns:
        The tables and figures written.

    Raises:
        ValueError: If a record there belongs to another config.
        StoppedError: If a signal asked to stop. The same call resumes.
    """
    out, workdir = Path(out).expanduser(), Path(workdir).expanduser()
    left = 0
    for number, job in enumerate(jobs, 1):
        title = f"[{number}/{len(jobs)}] {job.family} {job.name}, seed {job.seed}"
        path = out / job.path.with_name(f"{job.path.name}.json")
        broken = _why_broken(path) if path.is_file() else ""
        if path.is_file() and not broken:
            _refuse_another_config(path, job.config, workdir / job.path)
            say(f"{title}: done")
            continue
        say(f"{title}: {broken}" if broken else title)
        try:
            _make(job, workdir / job.path, path)
        except BusyError:
            say(f"{title}: another process is at it")
            left += 1
        jax.clear_caches()  # or every program ever compiled stays in memory
    if left:
        say(f"{left} of {len(jobs)} runs are left to other processes.")
    groups = dict.fromkeys(out / job.group for job in jobs)
    return [file for group in groups for file in report(group)]


def _why_broken(path: Path) -> str:
    """Why a file is no record, so that its run is made anew; empty if it is one."""
    try:
        read_record(path)
    except ValueError as error:
        return str(error)
    return ""


def _make(job: Job, folder: Path, path: Path) -> None:
    """Trains one run and writes its record."""
    diverged = ""
    try:
        train(job.config, folder, **job.own)
    except DivergedError as error:
        diverged = str(error)
    record = make_record(
        folder, job.config, family=job.family, choices=job.choices, diverged=diverged
    )
    write_record(path, record)


def _refuse_another_config(path: Path, config: TrainConfig, folder: Path) -> None:
    """Raises if a record is of a run with other fields that matter."""
    there = from_json(json.dumps(read_record(path).config))
    free = FREE_TO_CHANGE - {"eval_batch_size", "eval_every", "evaluators"}
    found = differences(there, config, free)
    if found:
        raise ValueError(
            f"{path} is of another config: {'; '.join(found)}. Choose another --out "
            f"and --workdir, or delete it and {folder} to make the run anew."
        )


def _load(file: Path) -> tuple[Any, Any]:
    """`get_config` of a file, and what it brings of its own.

    Its own imports are found from where it is run.
    """
    with _named(file), _importing_from(Path.cwd()):
        found = runpy.run_path(str(file))
    if "get_config" not in found:
        raise ValueError(f"{file} has no function `get_config`.")
    return found["get_config"], hooks(found)


@contextlib.contextmanager
def _named(file: Path | str) -> Iterator[None]:
    """Tells a mistake inside a config file in one line that names the file."""
    try:
        yield
    except (TypeError, AttributeError, KeyError) as error:
        raise ValueError(f"{file}: {describe(error)}") from error


@contextlib.contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    sys.path.insert(0, str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
