"""Families of runs: one config with parameters, every combination, one table.

Needs the extra `[train]`. `python -m hypersphere.experiments --help` says the commands.
"""

from hypersphere.experiments._compare import (
    Difference as Difference,
    compare as compare,
    compare_arms as compare_arms,
    comparison_to_markdown as comparison_to_markdown,
)
from hypersphere.experiments._family import Family as Family, family as family
from hypersphere.experiments._record import (
    Record as Record,
    read_records as read_records,
)
from hypersphere.experiments._report import bundle as bundle, report as report
from hypersphere.experiments._runner import Job as Job, jobs_of as jobs_of, run as run
