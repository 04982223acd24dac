import ast
import itertools
import pathlib
import re

import nbclient
import nbformat
import pytest

ROOT = pathlib.Path(__file__).parents[1]
FOLDER = ROOT / "colab"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))
DEFINED = {
    "quickstart": {"train_step", "loss_of"},
    "verify_and_retrieve": {"known_only"},
}  # what a user has to write
LARGEST = 40_000  # bytes

each = pytest.mark.parametrize("name", NAMES)


def read(name):
    return nbformat.read(FOLDER / f"{name}.ipynb", as_version=nbformat.NO_CONVERT)


def sources(name, kind="code"):
    return [cell.source for cell in read(name).cells if cell.cell_type == kind]


def run(name, folder, monkeypatch):
    """The notebook's outputs, after a run in a kernel of its own."""
    monkeypatch.setenv("HYPERSPHERE_SMOKE", "1")
    monkeypatch.setenv("JAX_PLATFORMS", "cpu")
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(ROOT / ".cache" / "notebooks"))
    monkeypatch.setenv("IPYTHONDIR", str(folder / ".ipython"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = read(name)
    resources = {"metadata": {"path": str(folder)}}
    client = nbclient.NotebookClient(notebook, timeout=300, resources=resources)
    client.execute()
    return [x for cell in notebook.cells for x in cell.get("outputs", [])]


def texts(outputs):
    return [str(output.get("data", {}).get("text/plain")) for output in outputs]


@pytest.mark.slow
@pytest.mark.optimized  # which pays off over some hundred steps
@each
def test_it_runs_from_top_to_bottom_without_a_warning(name, tmp_path, monkeypatch):
    outputs = run(name, tmp_path, monkeypatch)
    complaints = [x.text for x in outputs if x.get("name") == "stderr"]
    assert complaints == []
    assert not any("Warning" in x.get("text", "") for x in outputs)
    assert sum("image/png" in x.get("data", {}) for x in outputs) >= 4
    assert {path.name for path in tmp_path.iterdir()} <= {"runs", ".ipython"}
    if name == "imagenet_tpu":  # it was interrupted, has saved, and went on
        told = "".join(output.get("text", "") for output in outputs)
        assert "75" in texts(outputs)
        (stopped,) = re.findall(r"Stopped and saved at step (\d+) of", told)
        assert f"Resuming runs/sample at step {stopped}." in told
        assert "Finished: runs/sample" in told


def test_there_are_notebooks():
    assert {"quickstart", "imagenet_tpu"} <= set(NAMES)


@each
def test_it_is_valid_and_small_and_has_no_outputs(name):
    notebook = read(name)
    nbformat.validate(notebook)
    assert notebook.nbformat == 4
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    assert (FOLDER / f"{name}.ipynb").stat().st_size < LARGEST


@each
def test_it_begins_with_a_title(name):
    first = read(name).cells[0]
    assert first.cell_type == "markdown" and first.source.startswith("# ")


@each
def test_only_the_first_code_cell_installs_and_only_where_needed(name):
    install, *others = sources(name)
    assert 'if importlib.util.find_spec("hypersphere") is None:' in install
    commands = re.findall(r"^( *)([!%].*)", install, flags=re.M)
    assert all(indent for indent, _ in commands) and len(commands) == 4
    assert "%pip install" in commands[-1][1]
    assert not any(re.search(r"\bpip\b|git clone", source) for source in others)


@each
def test_every_code_cell_is_introduced(name):
    kinds = [cell.cell_type for cell in read(name).cells]
    pairs = set(itertools.pairwise(kinds))
    assert ("markdown", "code") in pairs and ("code", "code") not in pairs


@each
def test_it_defines_only_what_a_user_has_to_write(name):
    python = re.sub(r"^( *)[!%].*", r"\1pass", "\n".join(sources(name)), flags=re.M)
    kinds = ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef
    nodes = ast.walk(ast.parse(python))
    defined = {node.name for node in nodes if isinstance(node, kinds)}
    assert defined == DEFINED.get(name, set())


@each
def test_every_file_that_is_named_exists(name):
    text = "\n".join(sources(name, "markdown") + sources(name))
    files = re.findall(r"\b(?:configs|colab)/\w+\.(?:py|ipynb)\b", text)
    assert files
    for file in files:
        assert (ROOT / file).is_file(), file
