import json
import struct

import numpy as np
import pytest

from hypersphere import viz
from hypersphere.viz import _draw
from hypersphere.viz.__main__ import main


def _workdir(folder, *, dimension=2, seed=0):
    rng = np.random.default_rng(seed)
    folder.mkdir(exist_ok=True)
    rows = [
        {"step": s, "time": s / 9, "split": split, "loss": 9 / s, "accuracy": 1 - 1 / s}
        for s in range(2, 30)
        for split in ("train", "test")
    ]
    lines = [json.dumps(row) for row in rows]
    (folder / "metrics.jsonl").write_text("\n".join([*lines, '{"step": 30, "t']))
    np.savez(folder / "kernels.npz", **{"stem.kernel": rng.normal(size=(3, 3, 2, 8))})
    np.savez(
        folder / "features.npz",
        features=rng.normal(size=(60, dimension)).astype(np.float32),
        labels=rng.integers(0, 3, 60).astype(np.int32),
        class_names=np.array(["cat", "dog", "ship"]),
        centres=rng.normal(size=(dimension, 3)).astype(np.float32),
    )
    return folder


def _png_size(path):
    head = path.read_bytes()[:24]
    assert head[:8] == b"\x89PNG\r\n\x1a\n"
    return struct.unpack(">II", head[16:24])


def test_draws_a_picture_of_every_file_of_a_run(tmp_path):
    workdir = _workdir(tmp_path / "run")
    paths = viz.draw(workdir)
    names = ["learning_curve.png", "filter_angles.png", "features.png"]
    assert paths == [workdir / "plots" / name for name in names]
    assert sorted(p.name for p in (workdir / "plots").iterdir()) == sorted(names)
    for path in paths:
        width, height = _png_size(path)
        assert 500 <= width <= 3000 and 300 <= height <= 3000


def test_what_sigmoids_have_learned_is_drawn(tmp_path):
    np.savez(tmp_path / "softness.npz", layer=np.array([0.3, 0.8]))
    assert viz.draw(tmp_path) == [tmp_path / "plots" / "softness.png"]


def test_what_steps_do_to_layers_is_drawn_where_it_was_logged(tmp_path):
    names = [f"stages.{i}.conv.kernel" for i in (10, 2)] + ["head.kernel"]
    rows = [
        {"step": s, "split": "train"}
        | {f"turn/{name}": 0.0 if s == 1 else 0.1 / s for name in names}
        | {f"energy/{name}": 0.7 for name in names}
        for s in range(1, 5)
    ]
    file = tmp_path / "metrics.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    figure = viz.layer_curves(viz.read_metrics(file))
    drawn = [line.get_label() for line in figure.legends[0].get_lines()]
    assert drawn == [names[1], names[0], names[2]]
    turns = figure.axes[0].get_lines()[0].get_xdata()
    assert turns.tolist() == [2, 3, 4]  # a logarithm has no place for 0
    with pytest.raises(ValueError, match="config.log_geometry=True"):
        viz.layer_curves({"train": {"step": np.arange(2), "loss": np.ones(2)}})


def test_draws_what_a_running_run_has_so_far_and_again_later(tmp_path):
    workdir = _workdir(tmp_path / "run")
    (workdir / "features.npz").rename(workdir / "later")
    (workdir / "kernels.npz").unlink()
    assert [path.name for path in viz.draw(str(workdir))] == ["learning_curve.png"]
    (workdir / "later").rename(workdir / "features.npz")
    assert [p.stem for p in viz.draw(workdir)] == ["learning_curve", "features"]


@pytest.mark.slow
def test_the_same_files_give_the_same_pictures(tmp_path):
    workdir = _workdir(tmp_path / "run")
    first = [path.read_bytes() for path in viz.draw(workdir)]
    assert [path.read_bytes() for path in viz.draw(workdir)] == first


def test_a_picture_that_fails_leaves_the_old_one(tmp_path, monkeypatch):
    workdir = _workdir(tmp_path / "run")
    path = viz.draw(workdir)[0]
    before = path.read_bytes()

    def fail(self, partial, **options):
        partial.write_bytes(b"half")
        raise OSError("no space left")

    monkeypatch.setattr("matplotlib.figure.Figure.savefig", fail)
    with pytest.raises(OSError, match="no space left"):
        viz.draw(workdir)
    assert path.read_bytes() == before
    assert not list(path.parent.glob(".*"))


def test_comparison_reads_accuracy_where_a_run_has_finished(tmp_path, monkeypatch):
    done, running = _workdir(tmp_path / "a"), _workdir(tmp_path / "b", seed=1)
    (done / "result.json").write_text(json.dumps({"test_accuracy": 0.5}))
    seen = {}

    def spy(runs, **options):
        seen.update(runs)
        return viz.side_by_side(runs, **options)

    monkeypatch.setattr(_draw, "side_by_side", spy)
    path = viz.draw_comparison({"x": done, "y": running}, tmp_path / "new" / "xy.png")
    width, height = _png_size(path)
    assert 1000 <= width <= 2000 and 1000 <= height <= 2000
    assert seen["x"].accuracy == 0.5 and seen["y"].accuracy is None
    with np.load(running / "features.npz") as arrays:
        np.testing.assert_array_equal(seen["y"].features, arrays["features"])
        np.testing.assert_array_equal(seen["y"].centres, arrays["centres"])


def test_messages(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"draw needs .*'.*/nowhere', which is"):
        viz.draw(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"metrics.jsonl, kernels.npz or .*run"):
        viz.draw(tmp_path)
    with pytest.raises(FileNotFoundError, match="draw_comparison needs the folder"):
        viz.draw_comparison({"a": tmp_path / "nowhere"}, tmp_path / "x.png")
    with pytest.raises(FileNotFoundError, match=r"features.npz in each of"):
        viz.draw_comparison({"a": tmp_path}, tmp_path / "x.png")
    (tmp_path / "metrics.jsonl").write_text('{"st')
    with pytest.raises(ValueError, match="at least one line"):
        viz.draw(tmp_path)


def test_the_command_lists_the_files_it_wrote(tmp_path, capsys):
    workdir = _workdir(tmp_path / "run", dimension=5)
    main([str(workdir)])
    written = capsys.readouterr().out.splitlines()
    names = ("learning_curve", "filter_angles", "features")
    assert written == [str(workdir / "plots" / f"{name}.png") for name in names]


def test_the_command_draws_several_runs_side_by_side(tmp_path, capsys):
    runs = [str(_workdir(tmp_path / name, dimension=2)) for name in ("a", "b")]
    main([*runs, f"--out={tmp_path}/both.png"])
    assert capsys.readouterr().out.split() == [f"{tmp_path}/both.png"]
    assert (tmp_path / "both.png").is_file()


def test_the_command_explains_a_wrong_folder(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        main([str(tmp_path / "nowhere")])
    assert "needs the folder of a run" in capsys.readouterr().err
