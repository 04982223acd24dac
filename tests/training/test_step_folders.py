import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings, strategies as st

from hypersphere.training.checkpoints._step_folders import StepFolders

SCORES = st.none() | st.integers(0, 4).map(float) | st.just(float("nan"))


def put(folders, step, score=None):
    (folders.begin(step) / "data").write_bytes(b"1234")
    folders.finish(step, {"score": score})


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(SCORES, max_size=10), st.integers(1, 3), st.integers(0, 3))
def test_the_newest_and_the_best_are_always_kept(scores, keep, keep_best):
    with tempfile.TemporaryDirectory() as name:
        folders = StepFolders(Path(name))
        kept = []  # by the rule, applied after each step to what is there
        for step, score in enumerate(scores):
            put(folders, step, score)
            folders.delete_old(keep=keep, keep_best=keep_best)
            kept.append(step)
            scored = [s for s in kept if scores[s] is not None and scores[s] >= 0]
            best = sorted(scored, key=lambda s: (-scores[s], -s))[:keep_best]
            kept = [s for s in kept if s in kept[-keep:] or s in best]
            assert folders.whole() == kept
            assert folders.best()[:keep_best] == best
            whole_history = [
                s for s in range(step + 1) if scores[s] is not None and scores[s] >= 0
            ]
            highest = sorted(whole_history, key=lambda s: (-scores[s], -s))[:keep_best]
            assert best == highest  # nothing that has been deleted was better
        assert not list(Path(name).glob("*.part"))


@pytest.fixture
def folders(tmp_path):
    return StepFolders(tmp_path)


def test_an_unfinished_folder_is_not_there_and_is_cleared(folders):
    put(folders, 3)
    (folders.begin(4) / "data").write_bytes(b"12")
    assert (folders.whole(), folders.numbered()) == ([3], [3])
    (folders.folder / "5.orbax-checkpoint-tmp").mkdir()
    folders.clear()
    assert [path.name for path in folders.folder.iterdir()] == ["3"]


def test_other_folders_and_files_are_ignored_and_left(folders):
    put(folders, 3)
    for name in ("notes", "007", "-1", "4.damaged", "4.copy"):
        (folders.folder / name).mkdir()
    (folders.folder / "8").write_bytes(b"a file")
    folders.clear()
    assert folders.numbered() == [3]
    assert len(list(folders.folder.iterdir())) == 7


def test_a_number_without_a_seal_is_not_whole_and_gives_way(folders):
    folders.path(3).mkdir()
    assert (folders.whole(), folders.numbered()) == ([], [3])
    put(folders, 3)
    assert folders.whole() == [3]
    assert (folders.folder / "3.damaged").is_dir()


def test_setting_aside_never_overwrites(folders):
    for _ in range(3):
        put(folders, 3)
        folders.set_aside(3, "rewound")
    names = sorted(path.name for path in folders.folder.iterdir())
    assert names == ["3.rewound", "3.rewound.2", "3.rewound.3"]


def test_a_broken_seal_costs_its_score_only(folders):
    put(folders, 1, 0.9)
    put(folders, 2, 0.5)
    (folders.path(1) / "seal.json").write_bytes(b"{}")
    assert (folders.whole(), folders.best()) == ([1, 2], [2])
