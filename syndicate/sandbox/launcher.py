"""The launcher: a child process of the daemon that confines itself and then does one order.

Run as ``python -I -S launcher.py <pid of the daemon>`` with pipes at 0 (the order comes in),
1 and 2 (the program's output) and 3 (reports). It is started ahead of need and waits with all its
imports done, so that an order costs no start of an interpreter.

Everything it runs is in `syndicate.sandbox.confine` and `syndicate.sandbox.tar` and needs nothing
but the standard library: ``-S`` hides site-packages, and after the change of root no module can be
imported any more.
"""

import os
import sys

# Last, so that nothing beside our package can shadow the standard library.
sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from syndicate.sandbox.confine.program import main

main()
