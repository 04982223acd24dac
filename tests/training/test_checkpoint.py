import os

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hypersphere.training._checkpoint import Checkpoints


def state_at(step):
    blocks = {i: {"kernel": jnp.full((3, 2), 100 * step + i)} for i in range(12)}
    return {
        "step": jnp.array(step),
        "blocks": blocks,
        "half": jnp.ones(3, jnp.bfloat16),
    }


def shapes():
    return jax.eval_shape(lambda: state_at(0))


@pytest.fixture
def saved(tmp_path):
    checkpoints = Checkpoints(tmp_path, keep=2)
    for step in (1, 2, 3):
        checkpoints.save(step, state_at(step), {"seconds": step / 2})
    checkpoints.close()
    return tmp_path


def damage(folder):
    """Flips one bit in the middle of the largest file of a checkpoint."""
    files = [path for path in (folder / "state").rglob("*") if path.is_file()]
    largest = max(files, key=os.path.getsize)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def test_twelve_blocks_come_back_in_their_places_bit_for_bit(saved):
    state, meta, complaints = Checkpoints(saved).restore(shapes())
    assert (complaints, meta["seconds"]) == ([], 1.5)
    jax.tree.map(np.testing.assert_array_equal, state, state_at(3))
    assert state["half"].dtype == jnp.bfloat16


def test_only_the_newest_are_kept(saved):
    assert Checkpoints(saved).steps() == [2, 3]


def test_nothing_to_restore_is_none(tmp_path):
    assert Checkpoints(tmp_path).restore(shapes()) is None


def test_a_changed_bit_is_noticed_and_the_step_before_is_used(saved):
    damage(saved / "checkpoints" / "3")
    checkpoints = Checkpoints(saved)
    state, _, complaints = checkpoints.restore(shapes())
    assert int(state["step"]) == 2
    assert len(complaints) == 1 and "checkpoint 3 is damaged" in complaints[0]
    assert (saved / "checkpoints" / "3.damaged").is_dir()
    checkpoints.save(3, state_at(3), {})
    checkpoints.wait()
    assert checkpoints.steps() == [2, 3]


def test_reading_only_sets_nothing_aside(saved):
    damage(saved / "checkpoints" / "3")
    state, *_ = Checkpoints(saved, read_only=True).restore(shapes())
    assert int(state["step"]) == 2
    assert (saved / "checkpoints" / "3").is_dir()


def test_all_damaged_is_an_error_that_names_them(saved):
    for step in (2, 3):
        damage(saved / "checkpoints" / str(step))
    with pytest.raises(OSError, match=r"checkpoint 3 is damaged.*checkpoint 2 is dam"):
        Checkpoints(saved).restore(shapes())


def test_another_model_is_an_error_that_names_a_difference(saved):
    other = {**shapes(), "more": jax.ShapeDtypeStruct((1,), jnp.float32)}
    with pytest.raises(ValueError, match=r"holds another model.*\['more'\]"):
        Checkpoints(saved).restore(other)
    wider = {**shapes(), "half": jax.ShapeDtypeStruct((4,), jnp.bfloat16)}
    with pytest.raises(ValueError, match=r"holds another model.*\['half'\]"):
        Checkpoints(saved).restore(wider)


def test_a_state_that_is_not_finite_is_not_saved(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    state = {"good": jnp.ones(2), "bad": jnp.array([1.0, jnp.nan])}
    with pytest.raises(FloatingPointError, match=r"step 5 is not finite, in \['bad'\]"):
        checkpoints.save(5, state, {})
    assert checkpoints.steps() == []
