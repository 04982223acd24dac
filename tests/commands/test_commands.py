"""What one does with a trained model, as functions and on the command line."""

import functools
import json
import pathlib
import pickle

import jax
import numpy as np
import pytest
from flax import nnx
from PIL import Image

from hypersphere import commands, data, evaluation, training
from hypersphere.commands import _embed, _sets
from hypersphere.commands.command_line import main
from tests import helpers
from tests.training.small import config_of, leave_run


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run, by NumPy."""
    folder = tmp_path_factory.mktemp("run")
    leave_run(config_of({"optim.ema": 0.9}), folder)
    return folder


@pytest.fixture(scope="module")
def trained(run):
    return training.open_trained(run)


@pytest.fixture
def opened(trained, monkeypatch):
    """Commands take the model that is open: it would be compiled anew every time."""
    for module in (commands._evaluate, commands._predict, _embed, commands._openset):
        monkeypatch.setattr(module, "open_trained", lambda *_, **__: trained)
    return trained


@pytest.fixture(scope="module")
def digits(trained):
    """The test part, with what the model says of it."""
    part = data.load(trained.config.data.source).test
    return part, trained.answers(part.images)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Image files of two classes, and one that is none."""
    root = tmp_path_factory.mktemp("images")
    random = np.random.default_rng(0)
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2"):
        file = root / f"{name}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (9, 11), np.uint8)).save(file)
    (root / "b" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nbut no more")
    return root


def of(model, images):
    """What the loaded model says of normalized images, and what its head sees."""
    graph, state = nnx.split(model)

    @jax.jit
    def ask(state, images):
        x = data.normalize(images)
        model = nnx.merge(graph, state)
        return model(x), model.features(x)

    return jax.device_get(ask(state, images))


def test_a_model_says_what_the_loaded_one_does(trained, digits, run):
    part, answers = digits
    model, _ = training.load(run)
    logits, features = of(model, part.images[:3])
    np.testing.assert_allclose(answers.logits[:3], logits, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(answers.features[:3], features, rtol=1e-5, atol=1e-5)


@pytest.mark.slow
@pytest.mark.usefixtures("as_a_user")
def test_an_exported_folder_is_as_good_as_a_run(trained, run, digits, tmp_path):
    training.export(run, tmp_path / "out")
    part, answers = digits
    exported = training.open_trained(tmp_path / "out")
    assert exported.class_names == trained.class_names
    for ours, theirs in zip(exported.answers(part.images), answers, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-5)
    with pytest.raises(ValueError, match="which has one state"):
        training.open_trained(tmp_path / "out", best=True)
    (tmp_path / "out" / "weights.safetensors").write_bytes(b"PK")
    with pytest.raises(ValueError, match="cannot be read .*Export it again"):
        training.open_trained(tmp_path / "out")


def test_an_evaluation_counts_as_a_loop_does(opened, digits):
    part, answers = digits
    found = commands.evaluate("", corrupt=["contrast"], batch_size=len(part.labels))
    right = answers.logits.argmax(axis=1) == part.labels
    np.testing.assert_allclose(found["top1"], right.mean())
    confusion = np.array(found["confusion"])
    assert confusion.sum() == found["examples"] == len(right)
    assert np.trace(confusion) == right.sum() and "top5" not in found
    nll = evaluation.negative_log_likelihood(answers.logits, part.labels)
    np.testing.assert_allclose(found["calibration"]["raw"]["nll"], nll)
    worse = evaluation.corrupted(part.images, "contrast", 5)
    again = opened.answers(worse).logits.argmax(axis=1) == part.labels
    np.testing.assert_allclose(found["corrupted"]["contrast"][4], again.mean())
    assert len(found["corrupted"]["contrast"]) == 5


def test_statistics_taken_anew_are_those_of_the_training_images(run, monkeypatch):
    module, traces = training._trained._moments, []
    moments = module.moments
    monkeypatch.setattr(
        module, "moments", lambda *given: traces.append(1) or moments(*given)
    )
    trained = training.open_trained(run)
    images = data.load(trained.config.data.source).train.images
    trained.config.eval_batch_size = len(images) // 2
    for found, every_second in zip(
        _sets.recalibration_images(trained), (images[::2], images[1::2]), strict=True
    ):
        np.testing.assert_array_equal(found, every_second)
    trained.config.eval_batch_size = 2 * len(images)
    (batch,) = batches = list(_sets.recalibration_images(trained))
    np.testing.assert_array_equal(batch, images)
    before = trained.answers(batch)
    assert trained.recalibrate(batches) == len(images)
    model, _ = training.load(run)
    model.set_attributes(use_running_average=False, raise_if_not_found=False)
    expected, _ = of(model, batch)
    found = trained.answers(batch).logits
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4)
    assert np.abs(before.logits - found).max() > 1e-2
    trained.recalibrate(batches)
    assert len(traces) == 1  # asked again, nothing is traced again
    with pytest.raises(ValueError, match="at least one batch of training images"):
        trained.recalibrate([])


def test_a_model_without_batch_normalization_is_not_recalibrated():
    config = config_of({"model.batch_norm": False})
    images = training.Images("", (8, 8, 1), 3, 48)
    model = nnx.eval_shape(lambda: config.model.make(config, images))
    bare = training.Trained("bare", model, config, images)
    with pytest.raises(ValueError, match="and bare has none: evaluate it as it is"):
        bare.recalibrate([np.zeros((2, 8, 8, 1), np.uint8)])


def test_an_evaluation_recalibrates_what_it_opens(opened, monkeypatch):
    monkeypatch.setattr(opened, "recalibrate", lambda batches: sum(map(len, batches)))
    size = opened.config.eval_batch_size
    found = commands.evaluate("", recalibrate=True)
    assert found["recalibrated_on"] == opened.images.train // size * size


def test_a_temperature_is_judged_on_examples_it_was_not_fitted_on():
    random = np.random.default_rng(0)
    logits = random.standard_normal((400, 3)) * 4
    labels = np.array([random.choice(3, p=p) for p in _softmax(logits / 3)])
    found = commands._evaluate._calibration(logits.astype(np.float32), labels)
    even, odd = logits[::2], logits[1::2]
    of_odd = evaluation.fit_temperature(odd, labels[1::2])
    of_even = evaluation.fit_temperature(even, labels[::2])
    assert 2 < found["temperature"] < 4
    np.testing.assert_allclose(found["temperature"], (of_odd + of_even) / 2, rtol=1e-4)
    halves = [
        evaluation.negative_log_likelihood(x / t, y)
        for x, t, y in ((even, of_odd, labels[::2]), (odd, of_even, labels[1::2]))
    ]
    np.testing.assert_allclose(found["fitted"]["nll"], np.mean(halves), rtol=1e-4)


def _softmax(x):
    p = np.exp(x - x.max(axis=1, keepdims=True))
    return p / p.sum(axis=1, keepdims=True)


def test_files_are_predicted_in_order_and_a_broken_one_is_told(opened, folder, capsys):
    with pytest.raises(SystemExit) as ended:
        main(["predict", "run", str(folder), "--format=jsonl", "--top=3"])
    out, told = capsys.readouterr()
    rows = [json.loads(line) for line in out.splitlines()]
    names = [row["image"] for row in rows]
    assert names == ["a/1.png", "a/2.png", "a/3.png", "b/1.png", "b/2.png"]
    for row in rows:
        names, shares = zip(*row["classes"], strict=True)
        np.testing.assert_allclose(sum(shares), 1, rtol=1e-6)
        assert sorted(shares, reverse=True) == list(shares)
        assert set(names) == set(opened.class_names)
    assert ended.value.code == 1 and told.count("\n") == 1
    assert "b/broken.png" in told
    some = commands.predict("", [folder / "a" / "1.png", folder / "none.png"])
    assert len(list(some.found)) == 1 and "none.png (not there)" in some.broken[0]


def test_a_class_is_the_folder_however_it_is_given(opened, folder, tmp_path):
    link = tmp_path / "of b"
    link.symlink_to(folder / "b", target_is_directory=True)
    files = data.image_files([folder / "a", link])
    assert len({name for name, _ in files}) == len(files) == 6
    found = commands.embed("", images=[folder / "a", link])
    assert found.class_names == ("a", "of b")
    assert found.labels.tolist() == [0, 0, 0, 1, 1]
    below = commands.embed("", images=[tmp_path])
    assert below.names.tolist() == ["of b/1.png", "of b/2.png"]


def test_embeddings_are_features_and_go_on_where_they_stopped(
    opened, digits, tmp_path, monkeypatch
):
    part, answers = digits
    file = tmp_path / "test.npz"
    monkeypatch.setattr(_embed, "_PIECE", 5)
    batch = functools.partial(commands.embed, "", file, batch_size=5)
    piece, seen = _embed._piece, []

    def stops(trained, examples, start, *rest):
        if start == 5 and len(seen) == 1:
            seen.append(start)
            raise KeyboardInterrupt
        seen.append(start)
        return piece(trained, examples, start, *rest)

    monkeypatch.setattr(_embed, "_piece", stops)
    with pytest.raises(KeyboardInterrupt):
        batch()
    assert not file.exists() and seen == [0, 5]
    with pytest.raises(ValueError, match="a part of other features"):
        batch(flip=True)
    other = opened.fingerprint
    opened.fingerprint = "other weights"
    with pytest.raises(ValueError, match="a part of other features"):
        batch()
    opened.fingerprint = other
    batch()
    assert seen == [0, 5, 5]
    found = commands.read_embeddings(file)
    np.testing.assert_allclose(found.embeddings, answers.features, rtol=1e-6, atol=1e-6)
    np.testing.assert_array_equal(found.labels, part.labels)
    assert found.class_names == opened.class_names
    assert [p.name for p in tmp_path.iterdir()] == ["test.npz"]


def test_a_set_of_files_is_asked_in_memory_and_as_a_stream_by_names(folder, tmp_path):
    for name in ("a/1", "a/2", "a/3", "b/1", "b/2"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.open(folder / f"{name}.png").convert("RGB").save(tmp_path / f"{name}.png")
    config = config_of({"data.image_size": 8, "data.test_fraction": 0.5})
    config.data.stream = True
    images = training.Images("", (8, 8, 3), 2, 2, 2, class_names=("a", "b"))
    model = helpers.filled(lambda: config.model.make(config, images))
    found = []
    for stream in (True, False):
        config.data.stream = stream
        trained = training.Trained("one", model, config, images)
        examples, told = _sets.labelled(trained, f"folder:{tmp_path}", "train")
        batches = list(_sets.asked(trained, examples, 2))
        names = [name for batch, _ in batches for name in batch.names]
        assert not told and len(examples.digest()) > 4
        assert len(names) == sum(len(answers.logits) for _, answers in batches)
        found.append(set(names))
        rest = [b.names for b, _ in _sets.asked(trained, examples, 2, start=2)]
        assert [name for each in rest for name in each] == names[2:]
    assert found[0] == found[1] and all(name[:2] in ("a/", "b/") for name in found[0])


def test_streamed_images_are_cropped_as_the_config_says(folder):
    config = config_of({"data.image_size": 8, "data.test_fraction": 0.5})
    config.data.stream, config.data.crop_fraction = True, 0.5
    images = training.Images("", (8, 8, 3), 2, 2, 2, class_names=("a", "b"))
    model = helpers.filled(lambda: config.model.make(config, images))
    trained = training.Trained("one", model, config, images)
    examples, _ = _sets.labelled(trained, f"folder:{folder}", "train")
    (batch,) = examples.batches(0, 8)
    for image, name in zip(batch.images, batch.names, strict=True):
        same, other = (
            data.read_image(folder / name, (8, 8, 3), crop_fraction=fraction)
            for fraction in (0.5, 0.875)
        )
        np.testing.assert_array_equal(image, same)
        assert (image != other).any()
        ((alone, _, _),) = _sets.of_files(trained, [(name, folder / name)]).batches(
            0, 1
        )
        np.testing.assert_array_equal(alone[0], same)


def test_a_flip_adds_the_mirrored_image(opened, digits):
    part, answers = digits
    size = len(part.labels)
    both = commands.embed("", flip=True, batch_size=size).embeddings
    mirrored = opened.answers(part.images[:, :, ::-1]).features
    np.testing.assert_allclose(both, answers.features + mirrored, rtol=1e-5, atol=1e-5)


def test_a_full_disk_leaves_what_was_there(opened, tmp_path, monkeypatch):
    file = tmp_path / "test.npz"
    file.write_bytes(b"old")

    def full(path, content):
        del content
        if path == file:
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(_embed, "write_atomically", full)
    monkeypatch.setattr(_embed._Pieces, "joined", lambda self: [np.ones((1, 2))] * 3)
    with pytest.raises(OSError, match=r"No space left.*test\.npz"):
        commands.embed("", file, batch_size=12)
    assert file.read_bytes() == b"old"


def few():
    """Three classes, six embeddings."""
    x = np.eye(3)[[0, 0, 1, 1, 2, 2]] + 0.1 * np.arange(18).reshape(6, 3) / 18
    names = np.array([f"{'abc'[i // 2]}/{i}.png" for i in range(6)])
    return commands.Embeddings(
        x.astype(np.float32), np.repeat([0, 1, 2], 2), names, ("a", "b", "c")
    )


def lines(folder, name, *rows):
    file = pathlib.Path(folder, name)
    file.write_text("\n".join(rows))
    return file


@pytest.mark.parametrize(
    ("rows", "pair", "folds"),
    [
        (
            ["2\t1", *["Ann\t1\t2", "Ann\t1\tBo\t12"] * 2],
            "Ann/Ann_0001.jpg",
            2,
        ),
        (["1 a/1.wav a/2.wav", "0 a/1.wav b/1.wav"], "a/1.wav", 0),
        (["name1,name2,same", "x,y,1", "x,z,0"], "x", 0),
    ],
)
def test_lists_of_pairs_are_known_by_their_first_line(rows, pair, folds, tmp_path):
    file = lines(tmp_path, "pairs.txt", *rows)
    found = commands.read_pairs(file)
    assert found.a[:2] == [pair, pair] and found.same.tolist()[:2] == [True, False]
    assert found.folds == (2 if folds else 0)
    if folds:
        assert found.b[:2] == ["Ann/Ann_0002.jpg", "Bo/Bo_0012.jpg"]
        with pytest.raises(ValueError, match="promises 2 folds .* and has 3 pairs"):
            commands.read_pairs(lines(tmp_path, "short.txt", *rows[:4]))
    marked = tmp_path / "marked.txt"  # as Excel saves it
    marked.write_text(file.read_text(), encoding="utf-8-sig")
    assert commands.read_pairs(marked).a == found.a
    with pytest.raises(ValueError, match=r"line \d: needs"):
        commands.read_pairs(lines(tmp_path, "bad.txt", *rows, "1,2,3,4,5"))


def test_a_pickle_of_pairs_cannot_run_anything(tmp_path):
    class Evil:
        def __reduce__(self):
            return (pathlib.Path.touch, (tmp_path / "touched",))

    file = tmp_path / "lfw.bin"
    file.write_bytes(pickle.dumps(([Evil(), b""], [True])))
    with pytest.raises(ValueError, match=r"it would load .*only lists and bytes"):
        commands.read_bin(file)
    assert not (tmp_path / "touched").exists()
    file.write_bytes(pickle.dumps(([b"1", b"2", b"3"], [True])))
    with pytest.raises(ValueError, match="one label for two"):
        commands.read_bin(file)


def test_pairs_are_verified_by_names_templates_and_against_strangers(tmp_path):
    known = few()
    names = known.names.tolist()
    pairs = [(0, 1, 1), (2, 3, 1), (4, 5, 1), (0, 2, 0), (1, 4, 0), (3, 5, 0)]
    rows = [f"{names[i]},{names[j]},{same}" for i, j, same in pairs]
    file = lines(tmp_path, "pairs.csv", *rows)
    found, scored = commands.verify(file, embeddings=known, folds=0)
    assert (found["pairs"], found["same"], found["eer"], found["auc"]) == (6, 3, 0, 1)
    assert np.isnan(found["tar_at_far"]["0.01"]) and "accuracy" not in found
    i, j, _ = np.transpose(pairs)
    cosines = evaluation.pair_cosines(known.embeddings[i], known.embeddings[j])
    np.testing.assert_allclose(scored.scores, cosines)
    _, normalized = commands.verify(file, embeddings=known, folds=0, cohort=known)
    cohort = evaluation.pair_cosines(
        known.embeddings[i].repeat(6, 0), np.tile(known.embeddings, (6, 1))
    ).reshape(6, 6)
    other = evaluation.pair_cosines(
        known.embeddings[j].repeat(6, 0), np.tile(known.embeddings, (6, 1))
    ).reshape(6, 6)
    truth = evaluation.as_norm(cosines, cohort, other)
    np.testing.assert_allclose(normalized.scores, truth, rtol=1e-4, atol=1e-5)
    templates = lines(
        tmp_path,
        "templates.csv",
        *["name,template,medium"],
        *[f"{name},T{row // 2},M{row}" for row, name in enumerate(names)],
    )
    of_templates = lines(tmp_path, "t.csv", "T0,T0,1", "T0,T1,0", "T1,T2,0")
    found, _ = commands.verify(
        of_templates, embeddings=known, folds=0, templates=templates
    )
    assert found["auc"] == 1
    single = lines(tmp_path, "single.csv", *[f"{n},{n},{n}" for n in names])
    subjects = [f"{name},{name[0]},gallery" for name in names[:4:2]]
    subjects += [f"{name},{name[0]},probe" for name in names[1:]]
    found = commands.identify(known, single, lines(tmp_path, "s.csv", *subjects))
    assert (found["gallery"], found["probes"], found["strangers"]) == (2, 3, 2)
    assert found["rank1"] == 1
    more = [*subjects, f"{names[1]},a,gallery"]  # a second template of one subject
    again = commands.identify(known, single, lines(tmp_path, "s.csv", *more))
    for name in ("gallery", "probes", "rank1"):
        assert again[name] == found[name]


def test_files_of_embeddings_say_what_they_lack(tmp_path):
    x, file = few().embeddings, tmp_path / "x.npz"
    np.savez(file, embeddings=x)
    with pytest.raises(ValueError, match="no labels"):
        commands.retrieve(file)
    np.savez(file, embeddings=x, labels=[3, 3, -1, 7, 7, -1])
    found = commands.read_embeddings(file)
    assert found.class_names == ("3", "7")
    assert found.labels.tolist() == [0, 0, -1, 1, 1, -1]
    assert commands.retrieve(found)["queries"] == 4
    np.savez(file, embeddings=x, labels=list("abcabc"), class_names=list("cba"))
    assert commands.read_embeddings(file).labels.tolist() == [2, 1, 0, 2, 1, 0]
    np.savez(file, embeddings=x, labels=np.arange(6), class_names=["one"])
    with pytest.raises(ValueError, match="labels from 0 to 5 and 1 classes"):
        commands.read_embeddings(file)
    file.write_bytes(file.read_bytes()[:-40])
    with pytest.raises(ValueError, match=r"x\.npz is"):
        commands.read_embeddings(file)


def test_a_name_that_is_there_twice_is_refused_where_it_is_meant(tmp_path):
    known = few()._replace(names=np.array(["a", "a", "b", "c", "d", "e"]))
    fine = lines(tmp_path, "fine.csv", "b,c,1", "d,e,0")
    assert commands.verify(fine, embeddings=known, folds=0)[0]["pairs"] == 2
    with pytest.raises(ValueError, match="the name 'a' twice"):
        commands.verify(lines(tmp_path, "x.csv", "a,c,1", "d,e,0"), embeddings=known)


def test_what_has_no_effect_is_refused_and_what_is_missing_told(tmp_path):
    file = tmp_path / "scores.npz"
    np.savez(file, scores=[9.0, 1.0, 5.0], same=[1, 0, 1])
    found, _ = commands.verify(file)
    assert "10 folds do not divide 3 pairs" in found["told"]
    for options, message in (
        ({"flip": True}, "`flip` has no effect on scores.npz"),
        ({"thresholds": "insightface"}, "are no cosines"),
    ):
        with pytest.raises(ValueError, match=message):
            commands.verify(file, **options)
    np.savez(file, scores=[9.0, 1.0], same=[1, -1])
    with pytest.raises(ValueError, match="booleans, or of 0 and 1"):
        commands.verify(file)


def test_neighbours_banks_and_clusters_come_together():
    known = few()
    found = commands.retrieve(known, ks=(1, 2), bank=known, kmeans=True, seeds=2)
    assert found["recall"] == {"1": 1.0, "2": 1.0} and found["map_at_r"] == 1
    assert found["recall_at_1_without_hubs"] == 1 and found["nmi"]["mean"] > 0.5
    with pytest.raises(ValueError, match="no labels"):
        commands.retrieve(known._replace(labels=np.full(6, -1)))
    with pytest.raises(ValueError, match="2 features, the images have 3"):
        commands.retrieve(known, bank=known._replace(embeddings=np.ones((6, 2))))


def test_unknown_images_have_six_scores(opened):
    unknown = "synthetic:8x8x1,classes=5,examples=30"
    found = commands.openset("", unknown, batch_size=64, k=3)
    assert set(found["scores"]) == {
        *("max_softmax", "max_logit", "energy", "cosine", "mahalanobis", "knn")
    }
    for numbers in found["scores"].values():
        assert 0 <= numbers["auroc"] <= 1
        assert numbers["oscr"] <= found["accuracy"] + 1e-9
    novel = commands.novel(few(), few(), ["c"])
    assert novel == {"known": 1, "novel": 1, "harmonic": 1}
    with pytest.raises(ValueError, match="no class 'dog'; there are a, b, c"):
        commands.novel(few(), few(), ["dog"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{tmp}/none"], "which is none"),
        (["evaluate", "{tmp}"], "neither config.json nor model.json"),
        (["evaluate", "{run}", "--part=all"], "no part 'all'"),
        (["evaluate", "{run}", "--source=mnist5k"], "classes"),
        (["predict", "{run}", "{tmp}/none.png"], "no image and no folder"),
        (["predict", "{run}", "{tmp}"], "no image in the folder"),
        (["embed", "{run}", "{tmp}/x.csv"], "writes .npz or .parquet"),
        (["retrieve", "{tmp}/none.npz"], "no file of embeddings"),
        (["retrieve", "{run}/config.json"], "no file of embeddings as"),
        (["verify", "{tmp}/none.txt", "--embeddings=x"], "no list of pairs"),
        (["verify", "{tmp}/one.npz"], "all 2 are positive"),
        (["openset", "--model={run}"], "needs --model and what is unknown"),
    ],
)
def test_a_mistake_ends_in_one_line(arguments, message, run, tmp_path, capsys):
    if "{tmp}/one.npz" in arguments:
        np.savez(tmp_path / "one.npz", scores=[0.5, 0.7], same=[True, True])
    filled = [word.format(run=run, tmp=tmp_path) for word in arguments]
    with pytest.raises(SystemExit) as ended:
        main(filled)
    out, told = capsys.readouterr()
    assert ended.value.code == 1 and not out
    assert told.count("\n") == 1 and message in told
    assert not list(tmp_path.glob("*.part*"))


def test_what_is_asked_wrongly_is_a_mistake_of_usage(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["embedd"])
    assert ended.value.code == 2 and "--help explains" in capsys.readouterr().err
