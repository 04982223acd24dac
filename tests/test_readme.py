import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_examples_do_what_they_say(as_a_user, capsys):
    train, spherize = re.findall(r"```python\n(.*?)```", README, flags=re.S)
    names = {}
    exec(compile(train, "README.md", "exec"), names)
    assert float(names["loss"]) < 0.5  # chance is 2.3
    exec(compile(spherize, "README.md", "exec"), names)
    shown = re.findall(r"print.*  # (.*)", spherize)
    assert capsys.readouterr().out.splitlines() == shown


PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_file_that_is_linked_exists(page):
    links = re.findall(r"\]\((?!http)([^)#]+)[^)]*\)", page.read_text("utf-8"))
    for link in links:
        assert (page.parent / link).exists(), link


def test_the_table_of_configs_has_each():
    text = (ROOT / "docs" / "configs.md").read_text(encoding="utf-8")
    cells = re.findall(r"^\| (.*?) \|", text, flags=re.M)
    configs = [name for cell in cells for name in re.findall(r"`(\w+\.py)`", cell)]
    assert set(configs) == {path.name for path in (ROOT / "configs").glob("*.py")}
