"""Families of runs: one config with parameters, every combination, one table.

Needs the extra `[train]`. `python -m hypersphere.experiments --help` says the commands.
"""

from hypersphere.experiments._convergence import (
    draw_convergence as draw_convergence,
    published_curves as published_curves,
)
from hypersphere.experiments._family import Family as Family, family as family
from hypersphere.experiments._record import (
    Record as Record,
    read_records as read_records,
)
from hypersphere.experiments._report import report as report
from hypersphere.experiments._runner import Job as Job, jobs_of as jobs_of, run as run
