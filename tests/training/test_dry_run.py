import pytest

from hypersphere import training
from tests.training.small import config_of

# Filters 2, 3, 4 and 4 features, a gray image and 3 classes.
KERNELS = 9 * 2 + 9 * 2 * 3 + 9 * 3 * 4 + 4 * 4 + 4 * 3
NORMS = 2 * (2 + 3 + 4)  # scales and biases; as many means and variances


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """What a dry run returns, what it prints, and where it was called."""
    folder = tmp_path_factory.mktemp("empty")
    config = config_of({"optim.name": "adam", "optim.ema": 0.9, "steps": "2 epochs"})
    with pytest.MonkeyPatch.context() as patch:
        lines = []
        patch.setattr("rich.console.Console.print", lambda _, x, **__: lines.append(x))
        patch.chdir(folder)
        found = training.dry_run(config)
    return found, lines, folder


@pytest.mark.slow
def test_parameters_and_the_bytes_of_the_state_are_those_counted_by_hand(shown):
    found, _, _ = shown
    params = KERNELS + NORMS
    assert found["parameters"] == params == 226
    # Parameters, two moments and the average; running averages twice; three counters
    # of the state, one of Adam and one of the schedule. All have four bytes.
    assert found["state_bytes"] == 4 * (4 * params + 2 * NORMS + 3 + 1 + 1)


def test_a_dry_run_times_the_steps_of_the_whole_run(shown):
    found, _, _ = shown
    assert found["training_seconds"] == 12 * found["step_seconds"] > 0
    assert found["flops"] > 0 and found["temporary_bytes"] > 0


def test_a_dry_run_writes_nothing(shown):
    _, _, folder = shown
    assert not list(folder.iterdir())


def cells(table):
    return [list(column.cells) for column in table.columns]


def test_what_is_shown_is_what_is_returned(shown):
    found, (params, summary), _ = shown
    paths, shapes, dtypes, _ = cells(params)
    assert "head.kernel" in paths and "stages.0.0.conv.kernel" in paths
    assert shapes[paths.index("stages.1.0.conv.kernel")] == "3 x 3 x 2 x 3"
    assert set(dtypes) == {"float32"}
    rows = dict(zip(*cells(summary), strict=True))
    assert rows["parameters"] == f"{found['parameters']:,}"
    assert rows["steps"] == "12, 2.0 epochs"
    assert rows["batch"] == "8 in 1 parts, 8 a device"
    assert "48 + 9 images of 8 x 8 x 1, 3 classes" in rows["data"]


def test_a_wrong_config_is_refused_before_anything_is_compiled():
    with pytest.raises(ValueError, match=r"config\.optim\.ema"):
        training.dry_run(config_of({"optim.ema": 1.0}))
