"""Plants faults in the package, one at a time, and sees whether the tests notice.

    python -m tests.mutations                       all, with the tests as they are
    python -m tests.mutations --tests-of=REVISION   with the tests of a git revision
    python -m tests.mutations losses label          those whose row has a word

A fault is a line of the package written wrongly. It is planted in a copy, and the files
of tests that import the module run there until the first failure. The table says which
test noticed; the exit status is 1 if a fault went unnoticed. All of them take about a
quarter of an hour on two cores. Not collected by pytest.
"""

import argparse
import io
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import time

from tests.faults import FAULTS, Fault

ROOT = pathlib.Path(__file__).parents[1]


def unpack(folder: pathlib.Path, *, revision: str, paths: tuple[str, ...]) -> None:
    command = ["git", "archive", revision, *paths]
    tar = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        archive.extractall(folder, filter="data")


def copy_of_the_project(folder: pathlib.Path, tests_of: str | None) -> None:
    """The files that git knows, as they are now, with the tests of a revision."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True).stdout
    for name in filter(None, listed.decode().split("\0")):
        if (tests_of is None or not name.startswith("tests/")) and (
            ROOT / name
        ).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes((ROOT / name).read_bytes())
            (folder / name).chmod((ROOT / name).stat().st_mode)
    if tests_of is not None:
        unpack(folder, revision=tests_of, paths=("tests",))


def first_failure(folder: pathlib.Path, tests: str) -> str:
    """The test that fails first, or nothing."""
    files = [f"tests/{name}" for name in tests.split()]
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-rfE"]
    command += ["-p", "no:randomly", "-p", "no:cacheprovider"]
    command += ["-p", "no:compilations", *files]
    cache = os.environ.get("JAX_CACHE", str(ROOT / ".cache" / "jax"))
    environment = os.environ | {"JAX_CACHE": cache, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, env=environment
    )
    if done.returncode == 0:
        return ""
    failures = [
        line.partition(" ")[2].partition(" - ")[0]
        for line in done.stdout.splitlines()
        if line.startswith(("FAILED ", "ERROR "))
    ]
    if not failures:
        sys.exit(f"pytest did not run:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
    return failures[0].removeprefix("tests/")


def planted(folder: pathlib.Path, fault: Fault) -> str:
    """The first test that fails with a fault in the copy, which is whole afterwards."""
    file = folder / "hypersphere" / fault.file
    text = file.read_text()
    if text.count(fault.right) != 1:
        sys.exit(f"{fault.file} needs {fault.right!r} once, to plant: {fault.what}.")
    file.write_text(text.replace(fault.right, fault.wrong))
    try:
        return first_failure(folder, fault.tests)
    finally:
        file.write_text(text)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("words", nargs="*", help="only faults whose text has a word")
    parser.add_argument("--tests-of", metavar="REVISION", help="tests of a revision")
    chosen = parser.parse_args()
    faults = [
        fault
        for fault in FAULTS
        if not chosen.words or any(w in " ".join(fault) for w in chosen.words)
    ]
    unnoticed = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        copy_of_the_project(folder, chosen.tests_of)
        for fault in faults:
            start = time.monotonic()
            noticed = planted(folder, fault)
            unnoticed += not noticed
            seconds = time.monotonic() - start
            row = fault.file, fault.what, noticed or "NOT NOTICED", f"{seconds:.0f} s"
            print("| " + " | ".join(row) + " |", flush=True)
    sys.exit(1 if unnoticed else 0)


if __name__ == "__main__":
    main()
