"""Sphinx configuration; built by ``make doc`` with every warning an error."""

import sys
from pathlib import Path

from syndicate import __version__

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "Syndicate"
author = "the Syndicate authors"
copyright = "the Syndicate authors"
version = release = __version__

extensions = ["commands"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Syndicate"
html_show_copyright = False
html_copy_source = False

# Words in single backticks are code; that is what people mean by them.
default_role = "code"
highlight_language = "none"

man_make_section_directory = True
man_pages = [
    ("man/syndicate", "syndicate", "run master/slave programs on a cluster", author, 1),
    ("man/syndicate-manager", "syndicate-manager", "look after a cluster's manager", author, 1),
    ("job-file", "syndicate-jobfile", "what a job of Syndicate is", author, 5),
]
