"""Sphinx configuration; built by ``make doc`` with every warning an error."""

project = "Syndicate"
author = "the Syndicate authors"
copyright = "the Syndicate authors"
version = release = "0.1"

extensions: list[str] = []
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = "Syndicate"
html_show_copyright = False
html_copy_source = False

# Words in single backticks are code; that is what people mean by them.
default_role = "code"
highlight_language = "none"
