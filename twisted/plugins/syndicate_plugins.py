"""What ``twistd`` and ``twist`` find when they look for services.

This file is imported by every ``twistd`` on the machine, so it only names where the two makers
are; they are imported when one of the two commands is chosen. Neither this folder nor the one
above may have an ``__init__.py``: in a wheel it would overwrite Twisted's own.
"""

from twisted.application.service import ServiceMaker

manager = ServiceMaker(
    "Syndicate manager",
    "syndicate.plugins.makers.manager",
    "The manager: keeps the queue of jobs and the fleet of volunteers.",
    "syndicate-manager",
)

volunteer = ServiceMaker(
    "Syndicate volunteer",
    "syndicate.plugins.makers.volunteer",
    "A volunteer: offers this machine to a manager and runs its part of one job at a time.",
    "syndicate-volunteer",
)
