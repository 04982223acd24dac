import jax
import numpy as np
import pytest
from flax import nnx
from jax.tree_util import DictKey

from hypersphere import training
from hypersphere.training.checkpoints._graft import graft, without_padding
from hypersphere.training.run import _loop
from tests.training.small import SOURCE, arrays, config_of, leave_run


def full(shape, value):
    return jax.device_put(np.full(shape, value, np.float32))


def params(*, classes=3, value=0.0):
    return {
        "stages": {0: {"kernel": full((2, 4), value)}},
        "head": {"kernel": full((4, classes), value)},
    }


def test_all_but_the_fresh_ones_come_from_the_donor():
    mixed = graft(params(), params(classes=5, value=1.0), ("head.*",))
    assert np.all(np.asarray(mixed["stages"][0]["kernel"]) == 1)
    assert np.all(np.asarray(mixed["head"]["kernel"]) == 0)
    assert mixed["head"]["kernel"].shape == (4, 3)


def test_without_fresh_ones_everything_comes_from_the_donor():
    mixed = graft(params(), params(value=1.0), ())
    assert all(np.all(np.asarray(leaf) == 1) for leaf in jax.tree.leaves(mixed))


def test_a_donor_outlives_what_was_made_of_it():
    donor = params(value=1.0)
    mixed = graft(params(), donor, ())
    jax.tree.map(lambda leaf: leaf.delete(), mixed)
    again = graft(params(), donor, ())
    assert np.all(np.asarray(again["stages"][0]["kernel"]) == 1)


def test_a_head_of_another_padding_comes_over_with_its_classes():
    padded = {jax.tree_util.keystr((DictKey("head"), DictKey("kernel"))): 3}
    donor = params(classes=8, value=1.0)
    donor = without_padding(jax.tree.map(np.asarray, donor), padded)
    assert donor["head"]["kernel"].shape == (4, 3)
    mixed = graft(params(classes=4), donor, (), padded=padded)
    kernel = np.asarray(mixed["head"]["kernel"])
    assert (kernel[:, :3] == 1).all() and (kernel[:, 3:] == 0).all()
    other = params(classes=5, value=1.0)  # which are other classes
    with pytest.raises(ValueError, match=r"head\.kernel of shape \(4, 4\)"):
        graft(params(classes=4), other, (), padded=padded)


@pytest.mark.parametrize(
    ("donor", "message"),
    [
        (params(classes=5), r"head\.kernel of shape \(4, 3\), got shape \(4, 5\).*"),
        ({"head": params()["head"]}, r"stages\.0\.kernel of shape.*got nothing"),
    ],
)
def test_a_parameter_that_does_not_fit_is_named_with_the_way_out(donor, message):
    with pytest.raises(ValueError, match=message + r".*`config\.init_fresh`"):
        graft(params(), donor, ())


def test_what_the_donor_has_more_of_is_refused_unless_left_behind():
    donor = params(value=1.0) | {"memory": {"kernel": full((2,), 1.0)}}
    with pytest.raises(ValueError, match=r"1 arrays.*: memory\.kernel.*init_fresh"):
        graft(params(), donor, ())
    mixed = graft(params(), donor, ("memory.*",))
    assert mixed.keys() == params().keys()


def test_a_pattern_that_fits_nothing_is_named_with_the_nearest_parameters():
    with pytest.raises(ValueError, match=r"'haed\.\*'.*nearest.*head\.kernel"):
        graft(params(), params(), ("haed.*",))


@pytest.fixture(scope="module")
def donor(tmp_path_factory):
    """The folder of a run on three classes."""
    folder = tmp_path_factory.mktemp("donor")
    leave_run(config_of(steps=2), folder)
    return folder


@pytest.fixture
def beginning(monkeypatch, tmp_path):
    """(config) -> the state at which its run begins."""
    states = []

    def note(self):
        states.append(arrays(self.state))
        raise KeyboardInterrupt

    monkeypatch.setattr(_loop.Run, "advance", note)

    def of(config):
        with pytest.raises(KeyboardInterrupt):
            training.train(config, tmp_path / f"run{len(states)}")
        return states[-1]

    return of


@pytest.mark.slow
def test_a_run_begins_with_all_but_the_head_of_another(donor, beginning):
    source = SOURCE.replace("classes=3", "classes=4")
    config = config_of({"data.source": source, "init_from": str(donor)})
    begun = beginning(config).params
    given = nnx.to_pure_dict(nnx.state(training.load(donor).model, nnx.Param))
    head, from_scratch = begun.pop("head"), config_of({"data.source": source})
    given.pop("head")
    jax.tree.map(np.testing.assert_array_equal, begun, arrays(given))
    fresh = beginning(from_scratch).params["head"]
    np.testing.assert_array_equal(head["kernel"], fresh["kernel"])
    assert head["kernel"].shape == (4, 4)


@pytest.mark.slow
def test_an_average_begins_with_the_parameters_of_the_other_run(
    donor, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(_loop, "finish", lambda c, f, run, *_: {"steps": run.step})
    config = config_of({"init_from": str(donor), "optim.ema": 0.5, "init_fresh": ()})
    config.steps, config.model.similarity = 2, "linear"
    assert training.train(config, tmp_path) == {"steps": 2}
    told = "config.model.similarity is 'cosine' in "
    assert told in capsys.readouterr().out


def test_a_run_that_does_not_fit_is_refused_by_the_parameter(donor, tmp_path):
    source = SOURCE.replace("classes=3", "classes=4")
    config = config_of(
        {"data.source": source, "init_from": str(donor), "init_fresh": ()}
    )
    with pytest.raises(ValueError, match=r"head\.kernel of shape \(4, 4\).*\(4, 3\)"):
        training.train(config, tmp_path)
