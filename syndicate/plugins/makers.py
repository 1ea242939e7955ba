"""What ``twistd`` asks for the two services, and for the options of both.

It names what the services are made by, and imports that only once one is to be made: help and a
mistake on the command line need none of it.
"""

from __future__ import annotations

import gc
import importlib
from typing import Any

from twisted.application.service import IService

from syndicate.plugins.daemon import COLLECT, ConfigOptions


class Maker:
    """Makes one of the two services; see `twisted.application.service.ServiceMaker`.

    :param module: where its function ``make_service`` is.
    """

    Options = ConfigOptions

    def __init__(self, module: str) -> None:
        self._module = module

    def makeService(self, options: Any) -> IService:
        """The service, as its configuration wants it.

        :raises SystemExit: the configuration has mistakes.
        """
        gc.set_threshold(*COLLECT)
        made: IService = importlib.import_module(self._module).make_service(options)
        # Modules and classes stay, so that no later look at them can find anything.
        gc.freeze()
        return made


manager = Maker("syndicate.plugins.manager")

volunteer = Maker("syndicate.plugins.volunteer")
