"""Whether this installation, this machine and a bundle are sound, told check by check.

In: a bundle's name or folder, and where the system tells of itself. Out: findings, each with what
to do. How they are printed is not known here.
"""

from edge_et.checkup.all_checks import STATUS_OF_ALL, check_up
from edge_et.checkup.finding import Figure, Finding, Status
from edge_et.checkup.machine import Machine

__all__ = ["STATUS_OF_ALL", "Figure", "Finding", "Machine", "Status", "check_up"]
