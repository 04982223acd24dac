import errno
import functools
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere.training.checkpoints._checkpoint import Checkpoints, SaveError
from tests import helpers


def state_at(step):
    kernels = [np.full((3, 2), 100 * step + i, np.int32) for i in range(12)]
    arrays = {
        "step": np.int32(step),
        "blocks": {i: {"kernel": kernel} for i, kernel in enumerate(kernels)},
        "half": np.array([1.5, -0.0, step], jnp.bfloat16),
        "flag": np.array([True, False]),
    }
    return jax.device_put(arrays) | {"key": jax.random.key(step)}


@functools.cache
def shapes():
    return jax.eval_shape(lambda: state_at(0))


def bits(tree):
    """The bytes of all leaves, so that NaNs and signs of zero count."""
    return [
        np.asarray(
            jax.random.key_data(leaf)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else leaf
        ).tobytes()
        for leaf in jax.tree.leaves(tree)
    ]


@pytest.fixture
def opened():
    """Opens checkpoints, and closes them after the test."""
    all_opened = []

    def open_(folder, **options):
        all_opened.append(Checkpoints(folder, **options))
        return all_opened[-1]

    yield open_
    for checkpoints in all_opened:
        checkpoints.close()


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state_at(step), {"seconds": step / 2})
    checkpoints.close()
    return tmp_path


def files_of(folder, step):
    path = folder / "checkpoints" / str(step)
    return sorted(file for file in path.rglob("*") if file.is_file())


def damage(folder, step):
    """Flips one bit in the middle of the largest file of a checkpoint."""
    largest = max(files_of(folder, step), key=os.path.getsize)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def names(folder):
    return sorted(path.name for path in (folder / "checkpoints").iterdir())


def test_twelve_blocks_come_back_in_their_places_bit_for_bit(saved, opened):
    state, meta, complaints = opened(saved).restore(shapes())
    assert (complaints, meta) == ([], {"seconds": 1.5})
    assert jax.tree.structure(state) == jax.tree.structure(shapes())
    assert bits(state) == bits(state_at(3))
    assert state["half"].dtype == jnp.bfloat16
    assert state["key"].dtype == jax.random.key(0).dtype


def test_a_step_can_be_chosen(saved, opened):
    checkpoints = opened(saved)
    restored = checkpoints.restore(shapes(), step=2)
    assert bits(restored.state) == bits(state_at(2))
    with pytest.raises(FileNotFoundError, match=r"no checkpoint of step 1.*: \[2, 3\]"):
        checkpoints.restore(shapes(), step=1)
    damage(saved, 2)
    with pytest.raises(OSError, match=r"checkpoint 2 is damaged.*Others there: \[3\]"):
        checkpoints.restore(shapes(), step=2)
    assert checkpoints.steps() == [3]


def test_the_newest_and_the_best_are_kept(tmp_path, opened):
    checkpoints = opened(tmp_path, keep=2, keep_best=1)
    for step, score in [(1, 0.3), (2, 0.9), (3, None), (4, 0.9), (5, 0.1), (6, 0.2)]:
        checkpoints.save(step, {"x": jnp.ones(1)}, {}, score=score)
    checkpoints.wait()
    assert (checkpoints.steps(), checkpoints.best_step()) == ([4, 5, 6], 4)


def test_without_scores_there_is_no_best_step(saved, opened):
    checkpoints = opened(saved)
    assert (checkpoints.steps(), checkpoints.best_step()) == ([2, 3], None)


def test_nothing_to_restore_is_none(tmp_path, opened):
    checkpoints = opened(tmp_path)
    assert checkpoints.restore(shapes()) is None
    with pytest.raises(FileNotFoundError, match=r"Train first"):
        checkpoints.meta()


def test_a_saved_step_is_not_saved_again(saved, opened):
    checkpoints = opened(saved)
    checkpoints.save(3, state_at(9), {})
    checkpoints.wait()
    assert bits(checkpoints.restore(shapes()).state) == bits(state_at(3))


def test_all_of_64_bit_flips_are_noticed(saved, opened, capfd, caplog):
    checkpoints = opened(saved, read_only=True)
    generator = np.random.default_rng(5)
    files = files_of(saved, 3)
    sizes = np.array([file.stat().st_size for file in files])
    # One of each file, and the rest where most bytes are.
    rest = generator.choice(len(files), 64, p=sizes / sum(sizes))
    for file in [files[i] for i in [*range(len(files)), *rest][:64]]:
        whole = file.read_bytes()
        bit = int(generator.integers(8 * len(whole)))
        flipped = bytearray(whole)
        flipped[bit // 8] ^= 1 << (bit % 8)
        file.write_bytes(flipped)
        with pytest.raises(OSError, match=r"checkpoint 3 is damaged"):
            checkpoints.restore(shapes(), step=3)
        file.write_bytes(whole)
    assert bits(checkpoints.restore(shapes()).state) == bits(state_at(3))
    assert capfd.readouterr() == ("", "")
    assert not [r for r in caplog.records if r.levelno > logging.INFO]


def test_values_that_changed_before_they_were_written_are_noticed(
    tmp_path, opened, monkeypatch
):
    checkpoints = opened(tmp_path)
    write = checkpoints._files._checkpointer.save

    def write_other_values(path, leaves):
        write(path, {name: leaf.at[1].add(1) for name, leaf in leaves.items()})

    monkeypatch.setattr(checkpoints._files._checkpointer, "save", write_other_values)
    checkpoints.save(1, {"x": jnp.zeros(3)}, {})
    with pytest.raises(OSError, match=r"the bits of \['x'\] are not those"):
        checkpoints.restore({"x": jax.ShapeDtypeStruct((3,), jnp.float32)})


@pytest.mark.parametrize(
    "what", helpers.sampled(["cut", "deleted", "no seal", "empty"], "cut", "no seal")
)
def test_a_damaged_step_is_set_aside_with_one_line(saved, opened, what, capfd):
    folder = saved / "checkpoints" / "3"
    largest = max(files_of(saved, 3), key=os.path.getsize)
    if what == "cut":
        largest.write_bytes(largest.read_bytes()[:-5])
    elif what == "deleted":
        largest.unlink()
    else:
        (folder / "seal.json").unlink()
    if what == "empty":
        (folder / "state").rename(saved / "elsewhere")
    checkpoints = opened(saved)
    state, _, (complaint,) = checkpoints.restore(shapes())
    assert int(state["step"]) == 2
    assert complaint.startswith("checkpoint 3 is damaged (") and len(complaint) < 160
    assert "\n" not in complaint
    assert capfd.readouterr() == ("", "")
    assert names(saved) == ["2", "3.damaged"]
    checkpoints.save(3, state_at(3), {})
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3]
    assert bits(checkpoints.restore(shapes()).state) == bits(state_at(3))


def test_reading_only_changes_nothing(saved, opened):
    damage(saved, 3)
    (saved / "checkpoints" / "4.part").mkdir()
    checkpoints = opened(saved, read_only=True)
    state, _, complaints = checkpoints.restore(shapes())
    assert int(state["step"]) == 2 and len(complaints) == 1
    assert checkpoints.meta() == {"seconds": 1.5}
    with pytest.raises(ValueError, match=r"`save` needs `read_only=False`"):
        checkpoints.save(4, state_at(4), {})
    assert names(saved) == ["2", "3", "4.part"]


def test_reading_only_makes_no_folder(tmp_path, opened):
    assert opened(tmp_path / "none", read_only=True).steps() == []
    assert not (tmp_path / "none").exists()


def test_all_damaged_is_an_error_that_names_them(saved, opened):
    for step in (2, 3):
        damage(saved, step)
    with pytest.raises(OSError, match=r"checkpoint 3 is damaged.*checkpoint 2 is dam"):
        opened(saved).restore(shapes())


def test_another_model_is_an_error_that_names_a_difference(saved, opened):
    checkpoints = opened(saved)
    other = {**shapes(), "more": jax.ShapeDtypeStruct((1,), jnp.float32)}
    with pytest.raises(ValueError, match=r"another model.*\['more'\] \(nothing there"):
        checkpoints.restore(other)
    cast = {**shapes(), "half": jax.ShapeDtypeStruct((3,), jnp.float32)}
    with pytest.raises(ValueError, match=r"\(bfloat16\[3\] there, float32\[3\] here\)"):
        checkpoints.restore(cast)
    assert names(saved) == ["2", "3"]


def test_an_error_that_is_no_fault_of_the_files_renames_nothing(
    saved, opened, monkeypatch
):
    def no_memory(*_, **__):
        raise MemoryError

    monkeypatch.setattr("orbax.checkpoint.StandardCheckpointHandler.restore", no_memory)
    with pytest.raises(MemoryError):
        opened(saved).restore(shapes())
    assert names(saved) == ["2", "3"]


def test_a_state_that_is_not_finite_is_not_kept(tmp_path, opened):
    checkpoints = opened(tmp_path)
    checkpoints.save(4, {"good": jnp.ones(2)}, {})
    checkpoints.save(5, {"good": jnp.ones(2), "bad": jnp.array([1.0, jnp.nan])}, {})
    with pytest.raises(FloatingPointError, match=r"step 5 is not finite, in \['bad'\]"):
        checkpoints.wait()
    checkpoints.check()  # an error is raised once
    checkpoints.save(6, {"bad": jnp.array([jnp.inf])}, {})
    with pytest.raises(FloatingPointError, match=r"step 6 is not finite"):
        for _ in range(1000):  # without waiting, once it is known
            checkpoints.check()
            time.sleep(0.01)
    checkpoints.save(7, {"bad": jnp.array([jnp.inf])}, {})
    with pytest.raises(FloatingPointError, match=r"step 7 is not finite"):
        checkpoints.save(8, {"good": jnp.ones(2)}, {})
    checkpoints.wait()
    assert names(tmp_path) == ["4", "8"]


def test_meta_may_change_after_saving_and_must_be_json(tmp_path, opened):
    checkpoints = opened(tmp_path)
    meta = {"history": [1]}
    checkpoints.save(1, {"x": jnp.ones(1)}, meta)
    meta["history"].append(2)
    checkpoints.wait()
    assert checkpoints.meta() == {"history": [1]}
    with pytest.raises(TypeError, match=r"not JSON serializable"):
        checkpoints.save(2, {"x": jnp.ones(1)}, {"x": jnp.ones(1)})


def test_the_state_may_be_donated_right_after_saving(tmp_path, opened):
    checkpoints = opened(tmp_path, keep=9)
    train_step = jax.jit(
        lambda state: jax.tree.map(lambda x: x * 1.001 + 1, state), donate_argnums=0
    )
    draw = np.random.default_rng(1).standard_normal
    state = {f"{i}": jnp.asarray(draw((50, 300)), jnp.float32) for i in range(5)}
    expected = {}
    for step in range(1, 5):
        expected[step] = bits(jax.tree.map(lambda x: np.array(x, copy=True), state))
        checkpoints.save(step, state, {})
        for _ in range(5):
            state = train_step(state)
    template = jax.eval_shape(lambda: state)
    for step, wanted in expected.items():
        assert bits(checkpoints.restore(template, step=step).state) == wanted


def test_settings_out_of_range_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"needs `keep >= 1`.*got `keep=0`"):
        Checkpoints(tmp_path, keep=0)


# Orbax leaves a write that fails after the first one to an event loop it has closed.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_full_disk_is_told_and_the_last_checkpoint_stays(small_disk, opened, capfd):
    checkpoints = opened(small_disk)
    draw = np.random.default_rng(1).standard_normal
    state = {"x": jnp.asarray(draw(300_000), jnp.float32)}  # 1.2 MB, no zeros
    checkpoints.save(1, state, {})
    checkpoints.wait()
    (small_disk / "other").write_bytes(b"1" * 4_400_000)
    for step in (2, 3):
        needs = rf"Checkpoint {step} .*disk is full.*about 1\.2 MB.*checkpoint: 1"
        with pytest.raises(SaveError, match=needs):
            checkpoints.save(step, state, {})
            checkpoints.wait()
        assert names(small_disk) == ["1"]
    checkpoints.save(3, state, {})
    assert bits(checkpoints.restore(state).state) == bits(state)  # of step 1
    with pytest.raises(SaveError, match=r"Checkpoint 3"):
        checkpoints.wait()
    (small_disk / "other").unlink()
    checkpoints.save(4, state, {})
    checkpoints.check()
    checkpoints.wait()
    assert checkpoints.steps() == [1, 4]
    assert bits(checkpoints.restore(state).state) == bits(state)
    assert capfd.readouterr() == ("", "")


SAVE_FOR_EVER = """
    import itertools, pathlib, sys
    import jax.numpy as jnp
    from hypersphere.training.checkpoints._checkpoint import Checkpoints
    checkpoints = Checkpoints(pathlib.Path(sys.argv[1]), keep=2, keep_best=1)
    restored = checkpoints.restore({"x": jnp.zeros(50_000), "step": jnp.int32(0)})
    first = 1 if restored is None else int(restored.state["step"]) + 1
    for step in itertools.count(first):
        state = {"x": jnp.full(50_000, step, jnp.float32), "step": jnp.int32(step)}
        checkpoints.save(step, state, {"step": step}, score=-abs(step - 2))
        checkpoints.check()
        if step > first:  # the save before has been waited for
            print(step - 1, flush=True)
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_costs_the_unfinished_save_only(tmp_path, opened):
    generator = np.random.default_rng(3)
    sealed = 0
    for _ in range(8):
        process = subprocess.Popen(
            [sys.executable, "-c", textwrap.dedent(SAVE_FOR_EVER), str(tmp_path)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        sealed = int(process.stdout.readline())
        time.sleep(float(generator.uniform(0, 0.1)))
        process.send_signal(signal.SIGKILL)
        said = process.stdout.read().split()
        process.stdout.close()
        process.wait()
        sealed = max([sealed, *map(int, said)])
        checkpoints = opened(tmp_path)
        shape = jax.ShapeDtypeStruct((50_000,), jnp.float32)
        template = {"x": shape, "step": jax.ShapeDtypeStruct((), jnp.int32)}
        state, meta, complaints = checkpoints.restore(template)
        assert complaints == []
        assert int(state["step"]) == meta["step"] >= sealed
        np.testing.assert_array_equal(state["x"], meta["step"])
        steps = checkpoints.steps()
        assert len(steps) <= 4 and (2 in steps or sealed < 2)
        assert names(tmp_path) == sorted(map(str, steps))


ON_MESHES = """
    import pathlib, sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from hypersphere.training.checkpoints._checkpoint import Checkpoints
    from hypersphere.training.checkpoints._fingerprint import fingerprints

    def placed(n):
        if n == 1:
            return {"x": None, "y": None, "key": None}
        mesh = jax.make_mesh(
            (n // 2, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2,
            devices=jax.devices()[:n],
        )
        specs = {"x": P("a", "b"), "y": P(None, "a"), "key": P()}
        return {name: NamedSharding(mesh, spec) for name, spec in specs.items()}

    draw = np.random.default_rng(1).standard_normal
    whole = {
        "x": jnp.asarray(draw((16, 6)), jnp.bfloat16),
        "y": jnp.asarray(draw((3, 8, 5)), jnp.float32),
        "key": jax.random.key(3),
    }
    data = lambda x: np.asarray(jax.random.key_data(x) if "key" in str(x.dtype) else x)
    prints = {name: int(value) for name, value in fingerprints(whole).items()}
    state = jax.device_put(whole, placed(8))
    checkpoints = Checkpoints(pathlib.Path(sys.argv[1]), keep=9)
    for step, n in enumerate([4, 1, 8]):
        assert prints == {k: int(v) for k, v in fingerprints(state).items()}
        checkpoints.save(step, state, {})
        template = {
            name: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=placed(n)[name])
            for name, leaf in whole.items()
        }
        state, _, complaints = checkpoints.restore(template)
        assert complaints == []
        for name, leaf in state.items():
            assert len(leaf.devices()) == n
            assert data(leaf).tobytes() == data(whole[name]).tobytes(), (n, name)
    wrong = {**template, "x": jax.ShapeDtypeStruct(
        (16, 6), jnp.bfloat16, sharding=NamedSharding(placed(8)["x"].mesh, P("b", "a"))
    )}
    try:
        checkpoints.restore(wrong)
    except ValueError as error:
        print("refused", checkpoints.steps())
    checkpoints.close()
"""


def run_script(script, *arguments, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *map(str, arguments)],
        env={**os.environ, "JAX_PLATFORMS": "cpu", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.slow
def test_eight_devices_four_one_and_eight_hold_the_same_bits(tmp_path):
    flags = "--xla_force_host_platform_device_count=8"
    process = run_script(ON_MESHES, tmp_path, XLA_FLAGS=flags)
    out, err = process.communicate(timeout=120)
    assert (process.returncode, out) == (0, "refused [0, 1, 2]\n"), err


TWO_PROCESSES = """
    import pathlib, sys
    import jax, jax.numpy as jnp, numpy as np
    from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
    from hypersphere.training.checkpoints._checkpoint import Checkpoints

    folder, port, index = pathlib.Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    jax.distributed.initialize(f"127.0.0.1:{port}", 2, index)
    mesh = jax.make_mesh((4,), ("a",), axis_types=(AxisType.Auto,))
    rows, whole = NamedSharding(mesh, P("a")), NamedSharding(mesh, P())

    def state_at(step):
        full = np.arange(32, dtype=np.float32).reshape(8, 4) + step
        x = jax.make_array_from_callback(full.shape, rows, lambda i: full[i])
        number = np.int32(step)
        n = jax.make_array_from_callback((), whole, lambda i: number[i])
        return {"x": x, "n": n}

    shapes = {
        "x": jax.ShapeDtypeStruct((8, 4), jnp.float32, sharding=rows),
        "n": jax.ShapeDtypeStruct((), jnp.int32, sharding=whole),
    }

    def same(state, step):
        wanted = np.arange(32, dtype=np.float32).reshape(8, 4) + step
        return int(state["n"]) == step and all(
            np.array_equal(shard.data, wanted[shard.index])
            for shard in state["x"].addressable_shards
        )

    checkpoints = Checkpoints(folder, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state_at(step), {"step": step})
        checkpoints.save(step, state_at(9), {})  # already there
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3]
    restored = checkpoints.restore(shapes)
    assert same(restored.state, 3) and restored.meta == {"step": 3}
    if index == 0:
        [file for file in (folder / "checkpoints/3").rglob("d/*")][0].unlink()
    state, _, complaints = checkpoints.restore(shapes)
    assert same(state, 2) and len(complaints) == 1, complaints
    checkpoints.save(3, state_at(3), {})
    assert same(checkpoints.restore(shapes).state, 3)
    checkpoints.close()
    print(sorted(path.name for path in (folder / "checkpoints").iterdir()))
"""


@pytest.mark.slow
def test_two_processes_share_the_checkpoints(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    flags = "--xla_force_host_platform_device_count=2"
    processes = [
        run_script(TWO_PROCESSES, tmp_path, port, index, XLA_FLAGS=flags)
        for index in (0, 1)
    ]
    for process in processes:
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err[-3000:]
        assert out.splitlines()[-1] == "['2', '3', '3.damaged']"


@pytest.mark.parametrize(
    "name",
    ["lr[0.1]", "a b*?", "{x}{}", "100%20", "\\d[!x]", "ü日本", "gs:", "x" * 200],
)
def test_a_folder_may_be_called_anything(tmp_path, opened, name):
    checkpoints = opened(tmp_path / name)
    checkpoints.save(1, {"x": jnp.arange(3.0)}, {})
    found = checkpoints.restore({"x": jax.ShapeDtypeStruct((3,), jnp.float32)})
    assert found.state["x"].tolist() == [0, 1, 2] and not found.complaints


def test_what_a_reader_would_not_find_is_not_sealed(tmp_path, opened, monkeypatch):
    checkpoints = opened(tmp_path)
    wait = checkpoints._files.wait

    def lose_one():
        wait()
        for file in (tmp_path / "checkpoints" / "1.part").rglob("d/*"):
            file.unlink()

    monkeypatch.setattr(checkpoints._files, "wait", lose_one)
    checkpoints.save(1, {"x": jnp.zeros(3)}, {})
    with pytest.raises(SaveError, match="cannot be read back"):
        checkpoints.wait()
    assert checkpoints.steps() == []


def test_a_file_that_cannot_be_read_is_not_called_damaged(saved, opened, monkeypatch):
    from hypersphere.training.checkpoints import _checkpoint

    def fail(folder, seal):
        raise OSError(errno.EIO, "Input/output error")

    checkpoints = opened(saved)
    with monkeypatch.context() as patch:
        patch.setattr(_checkpoint, "check_files", fail)
        with pytest.raises(OSError, match=r"Checkpoint 3 .*cannot be read.*Input/out"):
            checkpoints.restore(shapes())
    assert checkpoints.damaged() == [] and checkpoints.steps() == [2, 3]
    assert not checkpoints.restore(shapes()).complaints


def test_processes_that_see_other_checkpoints_change_nothing(
    saved, opened, monkeypatch
):
    from hypersphere.training.checkpoints import _checkpoint
    from hypersphere.training.machine import _distributed

    checkpoints = opened(saved)
    unmounted = lambda mine: np.array([mine, -1])  # noqa: E731
    monkeypatch.setattr(_checkpoint, "everyones", unmounted)
    monkeypatch.setattr(_distributed, "_LAGS", (0.0,))
    with pytest.raises(OSError, match=r"process by process, 3, none.*mounted"):
        checkpoints.restore(shapes())
    unsealed = lambda mine: np.array([mine, mine.dtype == bool])  # noqa: E731
    monkeypatch.setattr(_checkpoint, "everyones", unsealed)
    monkeypatch.setattr(_checkpoint, "seen_by_all", lambda look, _: [look()[0]] * 2)
    with pytest.raises(OSError, match="whole to process 0, and not to process 1"):
        checkpoints.restore(shapes())
    assert checkpoints.damaged() == []


def test_a_score_can_be_given_later(saved, opened):
    checkpoints = opened(saved, keep_best=1)
    checkpoints.amend(2, {"seconds": 9.0}, score=0.7)
    assert checkpoints.best_step() == 2
    state, meta, complaints = checkpoints.restore(shapes(), step=2)
    assert (meta, complaints) == ({"seconds": 9.0}, [])
    assert bits(state) == bits(state_at(2))
    checkpoints.amend(2, {"seconds": 8.0}, score=None)
    assert checkpoints.best_step() == 2
