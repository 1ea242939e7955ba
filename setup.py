"""How Syndicate is built and installed; its tools are set up in ``pyproject.toml``."""

from setuptools import find_packages, setup

# Every floor has its reason beside it. It is raised when we need something newer, not when there
# is something newer: requirements.lock says what is really used.

RUNTIME = [
    # Before, twisted.web could answer pipelined requests in wrong order. Its extra conch brings
    # what the SSH console stands on.
    "twisted[tls,conch]>=24.7",
    "cryptography>=42",  # the first to tell a certificate's dates with their time zone
    "zope.interface>=6.0",  # the first with wheels for Python 3.11
    "attrs>=22.2",  # the oldest our tests were run with
    "cattrs>=23.1",  # brought transform_error, which names every mistake in a file at once
    "klein>=24.8",  # the oldest known to pass its own tests on the Twisted we use
    "werkzeug>=3.0",  # the oldest our tests were run with; klein's router, whose errors we catch
    "treq>=24.9",  # before, it imported cgi, which Python 3.11 deprecates
    "jinja2>=3.1.4",  # before, the xmlattr filter let keys of attributes inject others
    "click>=8.2",  # its CliRunner keeps what goes to stdout and to stderr apart
    "rich>=13",  # the oldest our tests were run with
    "platformdirs>=3",  # the oldest our tests were run with
    "psutil>=5.9.4",  # the first whose wheels are for every Python 3, 3.11 among them
]

TEST = [
    "pytest>=8.0",  # the first to rely on a pluggy with the wrappers that our rules are made of
    "pytest-twisted>=1.14.3",  # before, it called what Twisted deprecates since 24.7
    "pytest-xdist>=3.8",  # the oldest that was seen to work beside pytest-twisted
    "hypothesis>=6.100",  # the oldest our tests were run with
    "packaging>=22",  # the oldest our tests were run with
    "coverage>=7.4",  # the oldest our tests were run with
    "sphinx>=8.1",  # see DOC; the tests build the manual pages
    # The tests of packaging build and install with these two:
    "pip>=23.0",  # what a virtual environment of Debian 12 begins with
    "setuptools>=70.1",  # the first that makes wheels without the package of that name
]

DOC = [
    "sphinx>=8.1",  # the first whose -W shows all warnings and not only the first
    "furo>=2024.8.6",  # the first that supports Sphinx 8
]

# Floors near what the lock holds: an older linter would not find all that this one does.
CHECK = [
    "ruff>=0.17",
    "mypy>=2.4",
    "mypy-zope>=1.0.17",  # each allows few versions of mypy
    "import-linter>=2.12",  # the first where a forbidden package may hold the module in question
    "types-psutil",
    *DOC,
]

# What bench/run.py compares us with comes from Debian; see the Makefile.
BENCH: list[str] = []

setup(
    name="syndicate",
    version="0.1.0",
    description="Runs master/slave jobs on many machines, under faults",
    python_requires=">=3.11",
    # These two lines make twistd find our plugins, in an editable install too: with this
    # package_dir setuptools puts the folder itself on the path, and only so can Twisted's package
    # of plugins reach into it.
    package_dir={"": "."},
    packages=[*find_packages(include=["syndicate", "syndicate.*"]), "twisted.plugins"],
    install_requires=RUNTIME,
    extras_require={"test": TEST, "check": CHECK, "doc": DOC, "bench": BENCH},
    entry_points={
        "console_scripts": [
            "syndicate = syndicate.cli.main:main",
            "syndicate-manager = syndicate.plugins.command:main",
        ]
    },
    classifiers=[
        "Framework :: Twisted",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
    ],
)
