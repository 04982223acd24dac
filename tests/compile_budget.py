"""How many programs XLA may compile for each file of fast tests.

Compiling is most of what the tests take, and a test that runs an operation after the
other, or makes a layer of a new shape, compiles dozens of programs without a word. So
every file has a budget: what it compiles when it is run alone. Fixtures that a whole
file shares are counted apart. A file below is compared with its own row, every other
one with `COMMON`; `pytest --compilations` prints what each file needs.

JAX forgets its compiled programs when a file begins, so the count does not depend on
the files before; the cache on disk does not change it either, for JAX reports a
program that it reads from there as well. The examples of docstrings have no budget.
"""

import collections
from collections.abc import Iterator
from typing import NamedTuple

import jax
import pytest


class Budget(NamedTuple):
    tests: int
    fixtures: int = 0
    reason: str = ""


COMMON = Budget(30, 10)
# Ten more than measured, for the file that a process begins with.
BUDGETS = {
    "tests/experiments/test_runner.py": Budget(
        30, 42, "three whole runs, two programs"
    ),
    "tests/linen/test_conv.py": Budget(45, 0, "a geometry is a program"),
    "tests/losses/test_softmax.py": Budget(75, 0, "five similarities, eight margins"),
    "tests/nn/test_attention.py": Budget(42, 0, "masks, biases, heads and dtypes"),
    "tests/nn/test_conv.py": Budget(63, 0, "a geometry is a program"),
    "tests/nn/test_linear.py": Budget(46, 0, "similarities with their choices"),
    "tests/nn/test_norm.py": Budget(47, 0, "a geometry is a program"),
    "tests/nn/test_spherize.py": Budget(70, 0, "it copies array by array"),
    "tests/nn/test_transpose.py": Budget(48, 0, "a geometry is a program"),
    "tests/ops/test_conv.py": Budget(73, 0, "geometries; similarities in four dtypes"),
    "tests/ops/test_curves.py": Budget(44, 0, "platforms, dtypes and curves"),
    "tests/ops/test_decoupled.py": Budget(44, 0, "seven magnitudes, and their slopes"),
    "tests/ops/test_similarity.py": Budget(120, 0, "slopes at kinks hold eagerly only"),
    "tests/ops/test_transpose.py": Budget(60, 0, "a geometry is a program"),
    "tests/optim/test_spheres.py": Budget(65, 0, "six optimizers, each a program"),
    "tests/test_compatibility.py": Budget(110, 0, "models of every kind, copied"),
    "tests/test_contract.py": Budget(260, 0, "every public name, compiled and eager"),
    "tests/test_properties.py": Budget(46, 0, "shapes are drawn"),
    "tests/training/test_checkpoint.py": Budget(47, 0, "leaves of every dtype"),
    "tests/training/test_fingerprint.py": Budget(46, 0, "arrays of every dtype"),
    "tests/training/test_loop.py": Budget(38, 27, "whole runs"),
    "tests/training/test_parts.py": Budget(30, 24, "a whole run of one's own parts"),
    "tests/training/test_penalty.py": Budget(41, 0, "a penalty is a program"),
    "tests/recipes/test_optimizers.py": Budget(49, 10, "an optimizer is a program"),
}


class Compilations:
    """Counts them, forbids too many, and tells of them where that is asked for."""

    def __init__(self, *, is_told: bool) -> None:
        self.is_told = is_told
        self.so_far = self.by_fixtures = 0
        self.file = ""
        self.found = collections.defaultdict(collections.Counter)
        jax.monitoring.register_event_duration_secs_listener(self._listen)

    def _listen(self, event: str, duration: float, **_: object) -> None:
        self.so_far += event == "/jax/core/compile/backend_compile_duration"

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        file = item.nodeid.partition("::")[0]
        if file != self.file and not isinstance(item, pytest.DoctestItem):
            jax.clear_caches()
        self.file = file

    @pytest.hookimpl(wrapper=True)
    def pytest_fixture_setup(self, fixturedef: pytest.FixtureDef) -> Iterator[None]:
        before = self.so_far
        result = yield
        if fixturedef.scope != "function":
            self.by_fixtures += self.so_far - before
            self.so_far = before
        return result

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item) -> Iterator[None]:
        report = yield
        if not isinstance(item, pytest.DoctestItem):
            counts = {"tests": self.so_far, "fixtures": self.by_fixtures}
            report.user_properties.append(("compilations", counts))
        self.so_far = self.by_fixtures = 0
        return report

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Where the numbers of all worker processes arrive."""
        file = report.nodeid.partition("::")[0]
        for name, counts in report.user_properties:
            if name == "compilations" and "slow" not in report.keywords:
                self.found[file].update(counts)

    def exceeded(self) -> list[str]:
        return [
            f"{file}: {kind} compile {count} programs, its budget is {allowed}"
            for file, counts in sorted(self.found.items())
            for kind, count in counts.items()
            if count > (allowed := getattr(BUDGETS.get(file, COMMON), kind))
        ]

    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if self.exceeded() and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(
        self, terminalreporter: pytest.TerminalReporter
    ) -> None:
        told = terminalreporter
        if self.is_told:
            told.section("compilations: of tests, of shared fixtures")
            rows = sorted(self.found.items(), key=lambda row: -row[1].total())
            for file, counts in rows:
                told.line(f"{counts['tests']:6} {counts['fixtures']:6}  {file}")
        if exceeded := self.exceeded():
            told.section("more compilations than tests/compile_budget.py allows")
            for line in exceeded:
                told.line(line, red=True)
