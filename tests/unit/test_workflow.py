"""The public workflow does what the Makefile does, on the Pythons that the project names."""

import re
import tomllib
from typing import Any

import yaml

from tests.support.modules import ROOT

WORKFLOW = (ROOT / ".github" / "workflows" / "ci.yml").read_text("utf-8")
JOBS: dict[str, Any] = yaml.safe_load(WORKFLOW)["jobs"]
MAKEFILE = (ROOT / "Makefile").read_text("utf-8")


def test_jobs_run_targets_of_the_makefile() -> None:
    """What CI checks anybody can check, by the same words."""
    run = [step["run"] for job in JOBS.values() for step in job["steps"] if "run" in step]
    asked = {target for line in run for target in re.findall(r"^make ([\w-]+)$", line)}
    assert asked == {"check", "test", "faults", "dist"}
    assert asked <= set(re.findall(r"^([\w-]+):.*?## ", MAKEFILE, re.MULTILINE))


def test_every_python_of_the_project_is_tested() -> None:
    """And on both kinds of servers."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    named = re.findall(r"Python :: (3\.\d+)", "\n".join(project["classifiers"]))
    assert JOBS["test"]["strategy"]["matrix"]["python"] == named
    stacks = {job["env"]["ODDSLOG_STACK"] for job in JOBS.values() if "env" in job}
    assert stacks == {"local", "docker"}


def test_foreign_actions_are_pinned_and_may_only_read() -> None:
    """A tag can be moved to other code; a job that hangs is ended."""
    used = re.findall(r"uses: (\S+)(.*)", WORKFLOW)
    assert used
    for action, comment in used:
        assert re.fullmatch(r"actions/[\w-]+@[0-9a-f]{40}", action), action
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), action
    assert yaml.safe_load(WORKFLOW)["permissions"] == {"contents": "read"}
    assert all(job["timeout-minutes"] <= 60 for job in JOBS.values())
