"""What volunteers say, made fit to be believed: no longer than it should be, and in its ranges.

A volunteer may lie about its own part, and what it says is kept and shown to others. What no honest
volunteer says is refused; texts that may well be long, such as reasons, are cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs
from twisted.logger import Logger

from syndicate.blobs.interface import IBlobStore
from syndicate.domain.errors import Invalid
from syndicate.domain.volunteer import Facts
from syndicate.wire.interface import MOST_UNACKED, EndReport, GivenBack, Hello, Released

log = Logger()

#: Characters of a reason, and of any other text.
REASON = 2000
TEXT = 200
#: Entries of a list in the facts.
ENTRIES = 64
#: The largest number that is one of bytes, or of a run.
LARGEST = 1 << 50

_DIGEST = re.compile(r"[0-9a-f]{64}")


@attrs.frozen
class Vetting:
    """Looks at what comes; knows which outputs are there."""

    _blobs: IBlobStore

    def hello(self, hello: Hello) -> Hello:
        """A hello.

        :raises Invalid: it is none that a volunteer of ours says.
        """
        _check_texts("boot", (hello.boot,))
        if len(hello.unacked) > MOST_UNACKED:
            raise Invalid(f"A hello repeats {MOST_UNACKED} reports at the most.")
        given = hello.gave_back
        return attrs.evolve(
            hello,
            facts=_facts(hello.facts),
            unclean=hello.unclean[:REASON],
            unacked=tuple(self.report(each) for each in hello.unacked),
            gave_back=None if given is None else self._given_back(given),
        )

    def report(self, report: EndReport) -> EndReport:
        """A report.

        :raises Invalid: it is none that a volunteer of ours makes.
        """
        good = (
            1 <= report.run <= LARGEST
            and (report.exit_code is None or -255 <= report.exit_code <= 255)
            and (report.signal is None or 1 <= report.signal <= 64)
            and len(report.short) <= ENTRIES
        )
        if not good:
            raise Invalid("Such a run, exit code or signal there cannot be.")
        _check_texts("limit", (report.limit or "", *report.short))
        return attrs.evolve(
            report,
            problem=report.problem[:REASON],
            log_bytes=_count(report.log_bytes),
            outputs=self._outputs(report.outputs),
            left_out=_phrases(report.left_out),
        )

    def released(self, released: Released) -> Released:
        """What a machine left.

        :raises Invalid: it cannot be.
        """
        return attrs.evolve(
            released,
            log_bytes=_count(released.log_bytes),
            outputs=self._outputs(released.outputs),
            left_out=_phrases(released.left_out),
        )

    def _given_back(self, given: GivenBack) -> GivenBack:
        return attrs.evolve(
            given, released=self.released(given.released), unclean=given.unclean[:REASON]
        )

    def _outputs(self, sha256: str | None) -> str | None:
        """Outputs that are here; of what was never brought, or is gone, nobody is to be told."""
        if sha256 is None:
            return None
        if _DIGEST.fullmatch(sha256) is None:
            raise Invalid("What names the outputs is no digest.")
        if self._blobs.size(sha256) is None:
            log.warn("Outputs {sha256} are reported, and not here.", sha256=sha256)
            return None
        return sha256


def _facts(facts: Facts) -> Facts:
    texts = (facts.address, facts.arch, facts.kernel, facts.sandbox)
    _check_texts("the facts", texts)
    for many in (facts.enforced, facts.faults):
        _check_texts("the facts", many)
    if max(map(len, (facts.unsupported, facts.versions, facts.remarks))) > ENTRIES:
        raise Invalid("The facts have more entries than there can be.")
    if not (0 <= facts.cores <= 1 << 20 and 0 <= facts.memory <= LARGEST << 10):
        raise Invalid("A host has not as many cores, or as much memory.")
    return attrs.evolve(
        facts,
        unsupported=tuple((kind[:TEXT], why[:REASON]) for kind, why in facts.unsupported),
        remarks=tuple(remark[:REASON] for remark in facts.remarks),
        versions=tuple((name[:TEXT], version[:TEXT]) for name, version in facts.versions),
    )


def _check_texts(what: str, texts: Iterable[str]) -> None:
    texts = tuple(texts)
    if len(texts) > ENTRIES or any(len(text) > TEXT or not text.isprintable() for text in texts):
        raise Invalid(f"{what}: a text is longer than {TEXT} characters, or unprintable.")


def _phrases(phrases: tuple[str, ...]) -> tuple[str, ...]:
    """Such as quote paths and reasons, which may well be long."""
    if len(phrases) > ENTRIES:
        raise Invalid(f"There are more than {ENTRIES} phrases on what was left out.")
    return tuple(phrase[:REASON] for phrase in phrases)


def _count(number: int) -> int:
    if not 0 <= number <= LARGEST:
        raise Invalid(f"{number} is no number of bytes.")
    return number
