"""Findings of a command that examines, shown."""

from collections.abc import Sequence
from dataclasses import asdict

from ..doctor.finding import Finding, Level, exit_code
from .common import Run

__all__ = ["show_findings"]

_STYLES = {Level.OK: "", Level.WARN: "yellow", Level.FAIL: "red"}


def show_findings(run: Run, findings: Sequence[Finding]) -> int:
    """A line each and the sum; returns the exit code."""
    for finding in findings:
        run.out.say(finding.line(), style=_STYLES[finding.level])
    failed = sum(finding.level is Level.FAIL for finding in findings)
    warned = sum(finding.level is Level.WARN for finding in findings)
    if failed or warned:
        run.out.say(f"{failed} of {len(findings)} checks failed, {warned} warned", style="bold")
    else:
        run.out.say(f"All {len(findings)} checks are fine", style="bold")
    run.out.result(
        {
            "failed": failed,
            "warned": warned,
            "findings": [asdict(finding) for finding in findings],
        }
    )
    return exit_code(list(findings))
