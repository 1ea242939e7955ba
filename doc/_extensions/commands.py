"""What the manual pages take beside Sphinx: directives that show a command line as click has it.

``command-options`` gives the options of a command, ``command-verbs`` a section for each of its
verbs, in their own order, with those below them. Both take ``module:attribute`` and the name of the
program. In a manual page what points to other pages of the documentation is shown as words.
"""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator

import click
from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective


class _OfCommand(SphinxDirective):
    required_arguments = 2

    def context(self) -> click.Context:
        """Of the command that is named."""
        self.env.note_reread()  # click's tree may change while the page does not
        place, program = self.arguments
        module, _, attribute = place.partition(":")
        return click.Context(getattr(importlib.import_module(module), attribute), info_name=program)


class CommandOptions(_OfCommand):
    """All options of a command."""

    def run(self) -> list[nodes.Node]:
        return list(_options(self.context()))


class CommandVerbs(_OfCommand):
    """All verbs of a command."""

    def run(self) -> list[nodes.Node]:
        return list(_verbs(self.context()))


def _verbs(parent: click.Context) -> Iterator[nodes.Node]:
    group = parent.command
    assert isinstance(group, click.Group)
    for name in group.list_commands(parent):
        command = group.get_command(parent, name)
        if command is None or command.hidden:
            continue
        context = click.Context(command, info_name=name, parent=parent)
        path = context.command_path
        section = nodes.section(ids=[nodes.make_id(path)], names=[path])
        section += nodes.title(text=path)
        section += list(_description(context))
        yield section
        if isinstance(command, click.Group):
            yield from _verbs(context)


def _description(context: click.Context) -> Iterator[nodes.Node]:
    command = context.command
    usage = " ".join([context.command_path, *command.collect_usage_pieces(context)])
    yield nodes.paragraph("", "", nodes.strong(text=usage))
    for text in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        yield nodes.paragraph(text=" ".join(text.split()))
    yield from _options(context)
    if examples := getattr(command, "examples", ()):
        yield nodes.literal_block(text="\n".join(examples))


def _options(context: click.Context) -> Iterator[nodes.Node]:
    """But for ``--help``, which every command has."""
    options = nodes.definition_list()
    for parameter in context.command.params:
        record = parameter.get_help_record(context)
        if record is not None and isinstance(parameter, click.Option):
            term = nodes.term("", "", nodes.literal(text=record[0]))
            meaning = nodes.definition("", nodes.paragraph(text=record[1]))
            options += nodes.definition_list_item("", term, meaning)
    if len(options):
        yield options


def _unlink(app: Sphinx, doctree: nodes.document, docname: str) -> None:
    """Links within the documentation lead nowhere from a manual page."""
    if app.builder.format != "man":
        return
    for link in list(doctree.findall(nodes.reference)):
        if link.get("internal"):
            link.replace_self(link.children)


def setup(app: Sphinx) -> dict[str, bool]:
    """Called by Sphinx."""
    app.add_directive("command-options", CommandOptions)
    app.add_directive("command-verbs", CommandVerbs)
    app.connect("doctree-resolved", _unlink)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
