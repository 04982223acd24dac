import pathlib

import pytest

from tests.faults import FAULTS

PACKAGE = pathlib.Path(__file__).parents[1] / "hypersphere"


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.what)
def test_every_fault_can_be_planted(fault):
    assert (PACKAGE / fault.file).read_text().count(fault.right) == 1
    assert fault.wrong != fault.right
    for name in fault.tests.split():
        assert (PACKAGE.parent / "tests" / name).exists()
