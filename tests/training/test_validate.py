import pytest

from hypersphere import recipes, training
from hypersphere.training.settings._check import check, check_cadences
from tests.training.small import section


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("batch_size", 0, r"`config\.batch_size` must be at least 1, got 0"),
        ("data.erase", 1.5, r"`config\.data\.erase` must be in \[0, 1\], got 1\.5"),
        ("data.min_crop", 0.0, r"`config\.data\.min_crop` must be in \(0, 1\]"),
        ("guard.window", 1, r"`config\.guard\.window` must be at least 2"),
        ("data.std", 0.0, r"`config\.data\.std` must be positive"),
        ("optim.learning_rate", float("nan"), r"learning_rate` must be positive"),
        ("model.momentum", 1.0, r"`config\.model\.momentum` must be in \[0, 1\)"),
        (
            "loss",
            recipes.ArcFace(margin=28.6),
            r"margin` must be in \[0, pi\].*degrees",
        ),
        ("loss.floor", -0.5, r"`config\.loss\.floor` must be at least 0"),
    ],
)
def test_a_number_out_of_range_is_named(field, value, message):
    config = training.TrainConfig()
    *parents, name = field.split(".")
    target = getattr(config, parents[0]) if parents else config
    setattr(target, name, value)
    with pytest.raises(ValueError, match=message):
        check(config)


@pytest.mark.parametrize(
    ("loss", "model", "field"),
    [
        (dict(name="ga_softmax", label_smoothing=0.1), {}, "loss.label_smoothing"),
        (dict(name="a_softmax", floor=1e-4), {}, "loss.floor"),
        (dict(anneal=True), {}, "loss.anneal"),
        (dict(similarity="sigmoid"), {}, "loss.similarity"),
        ({}, dict(norm_features=True, batch_norm=False), "model.norm_features"),
        ({}, dict(name="vgg", norm_features=True), "model.norm_features"),
        ({}, dict(name="resnet", feature_dim=2), "model.feature_dim"),
        ({}, dict(shortcut="identity"), "model.shortcut"),
        ({}, dict(name="vgg", pre_activation=True), "model.pre_activation"),
        ({}, dict(magnitude="tanh", similarity="none"), "model.magnitude"),
        ({}, dict(magnitude="tanh", sphere_norm=True), "model.magnitude"),
        ({}, dict(use_length=True), "model.use_length"),
    ],
)
def test_a_field_without_effect_is_refused(loss, model, field):
    config = training.TrainConfig(
        loss=section("loss", **loss), model=section("model", **model)
    )
    with pytest.raises(ValueError, match=rf"`config\.{field}(=.*)?` has no effect"):
        check(config)


def test_what_leaves_a_field_without_effect_is_named():
    model = section("model", name="googlenet", shortcut="identity")
    config = training.TrainConfig(model=model)
    with pytest.raises(
        ValueError, match=r"with `config\.model\.name='googlenet'`: it is"
    ):
        check(config)


def test_features_of_one_number_are_refused():
    config = training.TrainConfig(model=recipes.SphereNet(feature_dim=1))
    with pytest.raises(ValueError, match=r"feature_dim` must be at least 2"):
        check(config)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (dict(profile=(3, 2)), r"profile` must be the first and the last.*\(3, 2\)"),
        (dict(profile=(3,)), r"profile` must be the first and the last"),
        (dict(evaluators=("train 5",)), r"`NAME every DURATION`.*'train 5'"),
        (
            dict(mesh=training.MeshConfig(rules=("*: models",))),
            r"mesh\.rules` needs `PATTERN: AXES`.*'\*: models'",
        ),
        (
            dict(guard=training.GuardConfig(full_disk="go on")),
            r"full_disk` needs one of 'stop', 'continue'",
        ),
        (
            dict(data=training.DataConfig(stream=True)),
            r"stream` needs a source tfds:NAME, folder:PATH, tar:PATH",
        ),
        (
            dict(data=training.DataConfig(stream=True, source="tar:x")),
            r"stream` needs `config\.data\.image_size`",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        check(training.TrainConfig(**fields))


@pytest.mark.parametrize("name", ["steps", "log_every", "eval_every"])
def test_a_cadence_of_no_steps_is_refused(name):
    config = training.TrainConfig(**{name: 0})
    with pytest.raises(ValueError, match=rf"`config\.{name}` must be at least 1 step"):
        check_cadences(config)
