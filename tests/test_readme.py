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


def test_every_file_and_config_that_is_named_exists():
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README)
    cells = re.findall(r"^\| (.*?) \|", README, flags=re.M)
    configs = [name for cell in cells for name in re.findall(r"`(\w+\.py)`", cell)]
    assert links and configs
    for path in [*links, *(f"configs/{name}" for name in configs)]:
        assert (ROOT / path).exists(), path
    table = {f"{path.name}" for path in (ROOT / "configs").glob("*.py")}
    assert table == set(configs)
