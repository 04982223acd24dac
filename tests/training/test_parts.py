import dataclasses
import json
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import nnx

from hypersphere import data, training
from hypersphere.training.checkpoints._checkpoint import Checkpoints
from hypersphere.training.compute._step import Task
from hypersphere.training.run import _loop, _run
from hypersphere.training.run._progress import score
from tests.training.small import after, arrays, config_of, set_up


class Net(nnx.Module):
    """Dropout with a stream of its own, a counter, and answers of two kinds."""

    def __init__(self, rngs):
        self.inner = nnx.Linear(64, 6, rngs=rngs)
        self.norm = nnx.BatchNorm(6, momentum=0.5, rngs=rngs)
        self.drop = nnx.Dropout(0.5, rngs=rngs)
        self.outer = nnx.Linear(6, 2, rngs=rngs)
        self.calls = nnx.Cache(jnp.zeros((), jnp.int32))

    def __call__(self, images):
        self.calls[...] += 1
        x = nnx.relu(self.norm(self.inner(images.reshape(len(images), -1))))
        x = self.drop(x)
        return {"point": self.outer(x), "dropped": (x == 0).mean()}


class ToCentres(nnx.Module):
    """The square of the way to a centre that is learned; it counts its calls."""

    def __init__(self):
        self.centres = nnx.Param(jnp.eye(3)[:, :2])
        self.seen = nnx.Variable(jnp.zeros(()))
        self.deterministic = False  # what `train()` and `eval()` set

    def __call__(self, outputs, labels, step):
        self.seen[...] += 1
        away = outputs["point"] - self.centres[...][labels]
        loss = jnp.sum(jnp.square(away), -1)
        is_training = jnp.float32(not self.deterministic)
        return {"loss": loss, "dropped": outputs["dropped"], "trains": is_training}


def to_nearest(outputs, labels):
    return {"norm": jnp.linalg.norm(outputs["point"], axis=-1)}


def get_parts(config, images):
    assert images.image_shape == (8, 8, 1) and images.num_classes == 3
    return training.Parts(
        make_model=lambda: Net(nnx.Rngs(config.seed)),
        loss=ToCentres(),
        optimizer=optax.adam(0.05),
        evaluate=to_nearest,
    )


def own(**fields):
    return config_of({"optim.ema": 0.5, **fields})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("parts") / "run"
    with pytest.MonkeyPatch.context() as patch:
        ended = lambda config, folder, run, *_: {"run": run}  # noqa: E731
        patch.setattr(_loop, "finish", ended)
        return training.train(own(), folder, parts=get_parts)["run"], folder


def test_what_is_told_is_what_the_parts_give_and_no_accuracy(finished):
    run, folder = finished
    lines = [json.loads(x) for x in (folder / "metrics.jsonl").read_text().splitlines()]
    train, test = ([x for x in lines if x["split"] == s] for s in ("train", "test"))
    for line in train:
        assert {"loss", "dropped", "norm", "grad_norm", "param_norm"} <= set(line)
        assert not {"accuracy", "learning_rate"} & set(line)
        assert 0 < line["dropped"] < 1 and line["trains"] == 1
    assert [line["step"] for line in test] == [3, 6]
    assert test[-1]["loss"] < test[0]["loss"] and test[-1]["norm"] > 0
    assert [line["trains"] for line in test] == [0, 0]
    # Without an accuracy the loss says which checkpoint is the best.
    assert Checkpoints(folder, read_only=True).best_step() == 6
    assert set(run.last["test"]) == {"loss", "dropped", "trains", "norm"}


def test_a_loss_that_is_not_finite_is_never_the_best():
    assert score({"loss": 3.0}) == -3 and score({"loss": 3.0, "accuracy": 0.5}) == 0.5
    worst = score({"loss": float("nan")})
    assert worst == score({"loss": float("inf")}) < score({"loss": 1e30})


def test_a_loss_learns_and_counts_in_training_alone(finished):
    state = finished[0].state
    assert np.abs(state.params["loss"]["centres"] - np.eye(3)[:, :2]).min() > 1e-3
    assert state.stats["loss"]["seen"] == state.stats["calls"] == 6
    assert state.average["params"]["loss"]["centres"].shape == (3, 2)


def test_a_run_with_parts_resumes_bit_for_bit(finished, tmp_path, monkeypatch):
    run, folder = finished
    again = shutil.copytree(folder, tmp_path / "again")
    shutil.rmtree(again / "checkpoints" / "6")
    ended = lambda config, folder, run, *_: {"run": run}  # noqa: E731
    monkeypatch.setattr(_loop, "finish", ended)
    resumed = training.train(own(), again, parts=get_parts)["run"]
    for one, other in zip(
        *map(jax.tree.leaves, (run.state, resumed.state)), strict=True
    ):
        np.testing.assert_array_equal(one, other)


def test_a_run_with_parts_says_which_it_lacks(finished, monkeypatch):
    _, folder = finished
    told = r"make_model, loss, optimizer, evaluate.*`get_parts` of .*test_parts\.py"
    monkeypatch.setattr(_run, "Run", None)
    for use in (training.load, lambda folder: training.train(own(), folder)):
        with pytest.raises(ValueError, match=told):
            use(folder)


def test_a_loaded_model_is_that_of_the_parts_with_averaged_weights(finished):
    run, folder = finished
    model, _ = training.load(folder, parts=get_parts)
    assert isinstance(model, Net) and model.drop.deterministic
    average = run.state.average["params"]
    np.testing.assert_array_equal(model.outer.kernel[...], average["outer"]["kernel"])


def test_random_streams_are_of_the_seed_and_the_step_alone():
    setup = set_up(own(), parts=get_parts)
    _, first = after(setup, 2, setup.program.init())
    _, again = after(setup, 2, setup.program.init())
    assert [x["dropped"] for x in first] == [x["dropped"] for x in again]
    assert first[0]["dropped"] != first[1]["dropped"]


class Growing(Net):
    def __call__(self, images):
        self.last = nnx.Cache(images)
        return super().__call__(images)


class Pictured(Net):
    def features(self, images):
        return images


class Named(Net):
    def __init__(self, rngs):
        super().__init__(rngs)
        self.loss = nnx.Linear(2, 2, rngs=rngs)


def zeros(outputs, labels, step):
    return jnp.zeros(len(labels))


BAD = {
    "a model that takes no images": (
        dict(make_model=lambda: nnx.Linear(5, 3, rngs=nnx.Rngs(0))),
        r"the model, on images of shape \(8, 8, 8, 1\), cannot be called",
    ),
    "no module": (
        dict(make_model=lambda: np.zeros(3)),
        r"`make_model` to return an `nnx.Module`, got .*bridge",
    ),
    "a loss for all": (
        dict(loss=lambda outputs, labels, step: 0.0),
        r"one number per example, of shape \(8,\).* got 'loss' of shape \(\)",
    ),
    "no loss in it": (
        dict(loss=lambda outputs, labels, step: {"cost": outputs["dropped"]}),
        r"dictionary with `loss`, got \['cost'\]",
    ),
    "a loss of other outputs": (
        dict(loss=lambda outputs, labels, step: outputs["x"]),
        "loss cannot be called: KeyError: 'x'",
    ),
    "no optimizer": (
        dict(optimizer=0.1),
        r"`optimizer` to be an `optax.GradientTransformation`, got float",
    ),
    "a pair per example": (
        dict(evaluate=lambda outputs, labels: {"p": outputs["point"]}),
        r"`evaluate` to give one number per example.*'p' of shape \(8, 2\)",
    ),
    "another objective": (
        dict(evaluate=lambda outputs, labels: {"loss": outputs["dropped"]}),
        "'loss' among what `evaluate` gives, which means something else",
    ),
    "a word of the log": (
        dict(evaluate=lambda outputs, labels: {"step": outputs["dropped"]}),
        "'step' among what `evaluate` gives",
    ),
    "one name for two": (
        dict(evaluate=lambda outputs, labels: {"dropped": outputs["dropped"]}),
        "'dropped' in what `loss` gives and in what `evaluate` gives",
    ),
    "features of images": (
        dict(make_model=lambda: Pictured(nnx.Rngs(0))),
        r"`features\(images\)` of a model to give .* of shape \(batch, features\)",
    ),
    "a name that is taken": (
        dict(make_model=lambda: Named(nnx.Rngs(0))),
        "the model has a part of that name",
    ),
}


@pytest.mark.usefixtures("as_a_user")
@pytest.mark.parametrize("name", BAD)
def test_parts_that_do_not_fit_are_told_before_training(name):
    fields, told = BAD[name]

    def parts(config, images):
        whole = dict(make_model=lambda: Net(nnx.Rngs(0)), loss=ToCentres())
        return training.Parts(**(whole | fields))

    with pytest.raises(ValueError, match=told):
        set_up(config_of(), parts=parts)


def test_a_model_that_makes_variables_when_called_is_told_to_make_them_before():
    def parts(config, images):
        return training.Parts(make_model=lambda: Growing(nnx.Rngs(0)), loss=ToCentres())

    setup = set_up(config_of(), parts=parts)
    state = setup.program.template
    with pytest.raises(ValueError, match=r"changed last float32\[8, 8, 8, 1\]"):
        jax.eval_shape(setup.program.train, state, *setup.feed.take(0, 1))


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"optim.clip_norm": 1.0}, r"clip_norm=1\.0` has no effect with an optimizer"),
        ({"optim.l2": 1.0}, r"l2=1\.0` has no layer to act on"),
    ],
)
def test_fields_without_effect_on_ones_own_parts_are_refused(fields, told):
    class Bare(nnx.Module):
        def __init__(self):
            self.kernel = nnx.Param(jnp.ones((64, 3)))

        def __call__(self, images):
            return images.reshape(len(images), -1) @ self.kernel[...]

    parts = training.Parts(make_model=Bare, optimizer=optax.sgd(0.1))
    with pytest.raises(ValueError, match=told):
        set_up(config_of(fields), parts=parts)


def test_a_run_goes_on_with_the_parts_it_was_begun_with(finished):
    _, folder = finished
    fewer = lambda config, images: dataclasses.replace(  # noqa: E731
        get_parts(config, images), optimizer=None
    )
    with pytest.raises(
        ValueError, match=r"begun with .*optimizer.*: optimizer differs"
    ):
        training.train(own(), folder, parts=fewer)


@pytest.mark.usefixtures("as_a_user")
def test_what_makes_no_parts_is_named():
    def get_parts(config, images):
        return {"loss": zeros}

    with pytest.raises(
        ValueError, match="`get_parts` needs to return `training.Parts`"
    ):
        set_up(config_of(), parts=get_parts)


@pytest.mark.slow
def test_a_part_of_ones_own_leaves_the_rest_as_the_config_says():
    setup = set_up(config_of(), parts=training.Parts(optimizer=optax.sgd(0.1, 0.9)))
    state, found = after(setup, 1)
    assert isinstance(setup.program.task, Task) and "learning_rate" not in found[0]
    expected, as_told = after(set_up(config_of()), 1)
    assert found[0]["loss"] == pytest.approx(as_told[0]["loss"])
    near = lambda one, other: np.testing.assert_allclose(one, other, atol=1e-6)  # noqa: E731
    jax.tree.map(near, arrays(state.params), arrays(expected.params))


def regression(config):
    """Vectors, of each of which two numbers are to be said; one has a name."""
    draw = np.random.default_rng(config.seed).standard_normal

    def part(count):
        inputs = draw((count, 5)).astype(np.float32)
        labels = {"sum": inputs.sum(1), "both": inputs[:, :2].copy()}
        return data.ImageSet(inputs, labels)

    return data.Dataset("vectors", part(40), part(13))


def decoded(config):
    """The same set, of which each example is made when it is needed."""
    whole = regression(config)

    def decode(item, rng):
        name, index = item
        part = getattr(whole, name)
        labels = {key: label[index] for key, label in part.labels.items()}
        return part.images[index], labels

    parts = ([(name, i) for i in range(n)] for name, n in (("train", 40), ("test", 13)))
    return data.RecordSet("vectors", *parts, decode=decode)


def regress(config, images):
    assert images[:6] == ("vectors", (5,), 0, 40, 13, "float32")

    def loss(outputs, labels, step):
        known = jnp.concatenate([labels["both"], labels["sum"][:, None]], -1)
        return jnp.mean(jnp.square(outputs - known), -1)

    return training.Parts(
        make_model=lambda: nnx.Linear(5, 3, rngs=nnx.Rngs(0)), loss=loss
    )


def test_examples_that_are_no_images_are_learned_and_resumed(tmp_path, capsys):
    config = config_of({"optim.learning_rate": 0.2}, steps=9)
    own = dict(parts=regress, dataset=regression)
    result = training.train(config, tmp_path, **own)
    assert "test_accuracy" not in result and result["steps"] == 9
    assert "No picture of features: the set has no classes" in capsys.readouterr().out
    model, _ = training.load(tmp_path, parts=regress)
    test = regression(config).test
    found = np.asarray(model(test.images))
    known = np.column_stack([test.labels["both"], test.labels["sum"]])
    expected = np.mean(np.square(found - known))
    assert result["test_loss"] == pytest.approx(expected, rel=1e-5)
    (tmp_path / "result.json").unlink()
    with pytest.raises(
        ValueError, match=r"\(make_model, loss, dataset\).*`get_dataset`"
    ):
        training.train(config, tmp_path, parts=regress)
    # Decoded one by one in the background they are the same examples.
    config.data.stream = True
    own = dict(parts=regress, dataset=decoded)
    again = training.train(config, tmp_path / "streamed", **own)
    assert again["test_loss"] == pytest.approx(result["test_loss"], rel=1e-6)


@pytest.mark.parametrize(
    ("fields", "own", "told"),
    [
        ({"data.flip": True}, {"dataset": regression}, "data.flip=True` has no effect"),
        ({"data.stream": True}, {"dataset": regression}, "needs a `data.RecordSet`"),
        ({}, {"dataset": lambda config: 3}, "needs a `data.Dataset` or .*got int"),
        (
            {},
            {"dataset": regression},
            r"'spherenet'` needs images .*\[5\] and 0 classes",
        ),
    ],
)
@pytest.mark.usefixtures("as_a_user")
def test_a_set_that_does_not_fit_the_run_is_told(fields, own, told, tmp_path):
    fields = fields | ({"data.image_size": 8} if "data.stream" in fields else {})
    source = {"data.source": "folder:x"} if "data.stream" in fields else {}
    with pytest.raises(ValueError, match=told):
        training.train(config_of(fields | source), tmp_path, **own)
