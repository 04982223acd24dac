"""The project's address stands in one place, and nothing names another one."""

import pathlib
import re
import tomllib

import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ADDRESS = PROJECT.get("urls", {}).get("Repository", "")
NOTEBOOKS = sorted((ROOT / "colab").glob("*.ipynb"))
HOSTS = r"https?://(?:colab\.research\.google\.com/github|github\.com|pypi\.org|badge)"


PLACES = ("", "docs", "colab", "configs", "examples", "benchmarks", "launch")
PLACES += ("hypersphere", "tests")
ENDINGS = {".md", ".ipynb", ".toml", ".cff", ".py", ".yaml", ".yml"}


def texts():
    for place in PLACES:
        folder = ROOT / place
        for path in sorted(folder.rglob("*") if place else folder.glob("*")):
            if path.suffix in ENDINGS and path.is_file():
                name = path.relative_to(ROOT).as_posix()
                yield name, path.read_text(encoding="utf-8")


def ours(text):
    """Addresses on a host of code that have the project's name."""
    found = re.findall(rf"{HOSTS}[^\s)\"'>]*", text)
    return [url for url in found if "hypersphere" in url.lower()]


def test_every_mention_is_of_the_address_that_its_owner_has_set():
    place = ADDRESS.removeprefix("https://github.com/")
    wrong = {
        name: urls
        for name, text in texts()
        if (urls := [u for u in ours(text) if not place or place not in u])
    }
    assert not wrong, f"pyproject.toml has Repository = {ADDRESS!r}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_install_from_the_address_or_say_that_there_is_none(path):
    cells = nbformat.read(path, as_version=nbformat.NO_CONVERT).cells
    install = next(cell.source for cell in cells if cell.cell_type == "code")
    assert f'REPOSITORY = "{ADDRESS}"' in install
    told = "has no public address yet" in cells[1].source
    assert told == (not ADDRESS)


def test_other_addresses_are_seen():
    host = "https://colab.research.google.com"
    badge = f"[x]({host}/github/me/hypersphere/blob/x.ipynb)"
    assert len(ours(badge)) == 1 and not ours("https://github.com/google/jax")


def test_texts_are_looked_at():
    assert {"README.md", "pyproject.toml", "CITATION.cff"} <= dict(texts()).keys()
