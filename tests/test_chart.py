"""The Helm chart, rendered in the variants that people use (deploy/helm/rdnscache/ci)."""

from __future__ import annotations

import base64
import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from support import ROOT

import rdnscache
from rdnscache.config import Config, load
from rdnscache.node.supervisor import KILL_MARGIN

pytestmark = pytest.mark.once

CHART = ROOT / "deploy/helm/rdnscache"
VARIANTS = sorted(path.name.removesuffix("-values.yaml") for path in CHART.glob("ci/*-values.yaml"))
#: Of Prometheus Operator: their schemas are not among those of Kubernetes.
FOREIGN = {"ServiceMonitor", "PrometheusRule"}
Thing = dict[str, Any]


@cache
def chart() -> Any:
    helm = pytest.importorskip("helm_python", reason="`make manifests` brings it")
    return helm.Chart.load(CHART)


def values_of(variant: str) -> Thing:
    return cast(Thing, yaml.safe_load((CHART / f"ci/{variant}-values.yaml").read_text()))


def rendered(values: Thing) -> dict[str, str]:
    chart().validate_schema(values)
    return cast(dict[str, str], chart().render(values, name="dns", namespace="names", is_install=True))


@cache
def things(variant: str) -> list[Thing]:
    return objects(values_of(variant))


def objects(values: Thing) -> list[Thing]:
    texts = rendered(values)
    found = [each for name, text in texts.items() if name.endswith(".yaml") for each in yaml.safe_load_all(text)]
    return [each for each in found if each is not None]


def only(found: list[Thing], kind: str, component: str) -> Thing:
    (thing,) = (
        each for each in found
        if each["kind"] == kind and each["metadata"]["labels"]["app.kubernetes.io/component"] == component
    )  # fmt: skip
    return thing


def pods(found: list[Thing]) -> list[Thing]:
    """What describes pods: labels and what is in them."""
    return [each["spec"]["template"] for each in found if each["kind"] == "Deployment"] + [
        each for each in found if each["kind"] == "Pod"
    ]


@pytest.mark.parametrize("variant", VARIANTS)
def test_kubernetes_accepts_what_is_rendered(variant: str) -> None:
    """Every object fits its schema, strictly, has a name of its own, and is in the release's namespace."""
    validate = pytest.importorskip("kubernetes_validate", reason="`make manifests` brings it")
    found = things(variant)
    for each in found:
        if each["kind"] not in FOREIGN:
            validate.validate(each, validate.latest_version(), strict=True)
        assert each["metadata"]["namespace"] == "names"
    names = [(each["kind"], each["metadata"]["name"]) for each in found]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("variant", VARIANTS)
def test_nodes_can_read_what_they_are_given(variant: str, tmp_path: Path) -> None:
    """File, environment and mounted secrets make a configuration, and the file says what the values say."""
    values, found = values_of(variant), things(variant)
    config = node_config(found, tmp_path)
    text = only(found, "ConfigMap", "node")["data"]["rdnscache.toml"]
    usual = yaml.safe_load((CHART / "values.yaml").read_text())["config"]

    assert tomllib.loads(text) == usual | values.get("config", {})
    assert str(config.listen[0]).endswith(":5300")
    assert config.redis == "none" or "password_file=" in config.redis
    for name, option in (("signing", "secret"), ("adminToken", "admin_token"), ("readToken", "admin_read_token")):
        assert bool(getattr(config, option)) == bool(given_secret(values, name)), name


def given_secret(values: Thing, name: str) -> str:
    secrets = values.get("secrets", {})
    return cast(str, secrets.get(name) or secrets.get("keys", {}).get(name, ""))


def node_config(found: list[Thing], folder: Path) -> Config:
    """What a node makes of its pod: each mounted path is below a folder here."""
    pod = only(found, "Deployment", "node")["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for path, text in mounted(found, pod, container):
        file = folder / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(re.sub(r"(?<=\")/etc/rdnscache/", f"{folder}/etc/rdnscache/", text))
    env = {
        each["name"]: str(each["value"]).replace("/run/secrets/", f"{folder}/run/secrets/") for each in container["env"]
    }
    warned: list[str] = []
    config = load(f"{folder}{env['RDNSCACHE_CONFIG']}", {}, env, warned.append)
    assert not warned
    return config


def mounted(found: list[Thing], pod: Thing, container: Thing) -> Iterator[tuple[str, str]]:
    """The files that a container sees, and what is in them; what is in Secrets that are not the chart's is made up."""
    made = {(each["kind"], each["metadata"]["name"]): each for each in found}
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        volume = volumes.pop(mount["name"])
        if "configMap" in volume:
            for name, text in made["ConfigMap", volume["configMap"]["name"]]["data"].items():
                yield f"{mount['mountPath']}/{name}", text
        elif "secret" in volume:
            secret = made.get(("Secret", volume["secret"]["secretName"]))
            for key in secret_keys(volume):
                text = base64.b64decode(secret["data"][key]).decode() if secret else "k1:0123456789abcdef"
                yield f"{mount['mountPath']}/{key}", text
    assert not volumes, "a volume that nobody has mounted"


def secret_keys(volume: Thing) -> list[str]:
    items = volume["secret"].get("items")
    return [item["path"] for item in items] if items else ["ca.crt", "tls.crt", "tls.key"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_is_looked_for_is_there(variant: str) -> None:
    """Selectors find pods or services, ports exist under their names, and each thing referred to is rendered."""
    found = things(variant)
    there = pods(found)
    labels = [each["metadata"]["labels"] for each in there]
    for each in found:
        spec = each.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        wanted = selector.get("matchLabels", selector)
        services = [x["metadata"]["labels"] for x in found if x["kind"] == "Service"]
        among = services if each["kind"] == "ServiceMonitor" else labels
        fit = [known for known in among if wanted.items() <= known.items()]
        assert not wanted or len(fit) == 1, each["metadata"]["name"]
        if each["kind"] == "Service":
            (pod,) = (pod for pod in there if wanted.items() <= pod["metadata"]["labels"].items())
            ports = {port["name"] for box in pod["spec"]["containers"] for port in box["ports"]}
            assert {port["targetPort"] for port in spec["ports"]} <= ports
    accounts = {each["metadata"]["name"] for each in found if each["kind"] == "ServiceAccount"} or {"default"}
    assert {pod["spec"]["serviceAccountName"] for pod in there} == accounts


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_are_locked(variant: str) -> None:
    """No root, no capability, no writable root, no token, an image with a version."""
    for pod in pods(things(variant)):
        spec = pod["spec"]
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert spec["securityContext"]["runAsNonRoot"] is True
        for box in spec["containers"]:
            assert box["securityContext"]["readOnlyRootFilesystem"] is True
            assert box["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert re.search(r":\d[\w.-]*(@sha256:[0-9a-f]{64})?$", box["image"]), box["image"]


@pytest.mark.parametrize("variant", VARIANTS)
def test_pods_may_end_by_themselves(variant: str, tmp_path: Path) -> None:
    """The grace period is longer than what a node takes to linger and drain."""
    found = things(variant)
    config = node_config(found, tmp_path)
    grace = only(found, "Deployment", "node")["spec"]["template"]["spec"]["terminationGracePeriodSeconds"]
    assert grace > config.linger + config.drain + KILL_MARGIN


def test_an_operator_has_rights_of_its_own() -> None:
    """Nodes do not see the operator's password, nor that pod theirs or the admin token."""
    found = things("everything")
    seen = {
        component: {
            item["key"]
            for volume in only(found, "Deployment", component)["spec"]["template"]["spec"]["volumes"]
            for item in volume.get("secret", {}).get("items", [])
        }
        for component in ("node", "operator")
    }
    assert seen == {
        "node": {"redis-password", "admin-token", "signing"},
        "operator": {"operator-password", "signing"},
    }


def test_the_bundled_redis_is_that_of_deploy() -> None:
    """Script, configuration and rights are those of deploy/redis, with the names and the prefix that the values say."""
    data = only(things("default"), "ConfigMap", "redis")["data"]
    assert data == {
        name: (ROOT / "deploy/redis" / name).read_text() for name in ("redis.sh", "redis.conf", "users.acl")
    }
    users = only(things("gitops"), "ConfigMap", "redis")["data"]["users.acl"]
    assert re.findall(r"^user (\S+)", users, re.MULTILINE) == ["default", "health", "dns", "admin"]
    assert set(re.findall(r"[~&](\w+):", users)) == {"corp"}


def test_alerts_and_dashboard_are_those_of_deploy() -> None:
    """There is one source of each."""
    found = things("monitoring")
    (rule,) = (each for each in found if each["kind"] == "PrometheusRule")
    assert rule["spec"] == yaml.safe_load((ROOT / "deploy/prometheus/rules.yml").read_text())
    (dashboard,) = (each for each in found if each["metadata"]["name"].endswith("-dashboard"))
    assert json.loads(dashboard["data"]["rdnscache.json"]) == json.loads(
        (ROOT / "deploy/grafana/rdnscache.json").read_text()
    )


def test_a_rendering_with_a_secret_of_ones_own_is_always_the_same() -> None:
    """Nothing is made up then, so who compares renderings finds no difference."""
    assert rendered(values_of("gitops")) == rendered(values_of("gitops"))
    assert rendered({}) != rendered({}), "otherwise the passwords are no secret"


def test_a_change_of_the_configuration_replaces_nodes_alone() -> None:
    """The pods' annotations differ, and those of Redis do not."""

    def annotations(values: Thing) -> list[Thing]:
        found = objects(values)
        return [only(found, "Deployment", each)["spec"]["template"]["metadata"] for each in ("node", "redis")]

    (node, redis), (other, same) = annotations({}), annotations({"config": {"ttl_max": 60}})
    assert node != other
    assert redis == same
    assert annotations({"files": {"own.zone": ""}})[0] not in (node, other)


@pytest.mark.parametrize(
    "values",
    [
        {"replicas": 3},
        {"config": {"redis": "redis://192.0.2.10"}},
        {"config": {"admin_token": "secret"}},
        {"config": {"upstream": []}},
        {"config": {"listen": ["0.0.0.0:53"]}},
        {"redis": {"url": "redis://user:secret@redis"}},
        {"redis": {"url": "redis.example"}},
        {"secrets": {"signing": "k1:short"}},
        {"service": {"type": "loadBalancer"}},
        {"image": {"digest": "sha256:short"}},
    ],
)
def test_values_that_cannot_be_meant_are_refused(values: Thing) -> None:
    """What is misspelt, at the wrong place or of no use ends the installation with its name."""
    with pytest.raises(Exception, match=next(iter(values))):
        chart().validate_schema(values)


@pytest.mark.parametrize("variant", VARIANTS)
def test_notes_name_what_is_there(variant: str) -> None:
    """Each object that a command in the notes names has been rendered."""
    notes = rendered(values_of(variant))["rdnscache/templates/NOTES.txt"]
    names = {(each["kind"].lower(), each["metadata"]["name"]) for each in things(variant)}
    used = re.findall(r"(deployment|service)[/ ]([a-z][\w-]*)", notes)
    assert used
    assert set(used) <= names


def test_every_option_of_the_readme_exists() -> None:
    """Its examples can be rendered."""
    for example in re.findall(r"```yaml\n(.*?)```", (CHART / "README.md").read_text(), re.DOTALL):
        assert rendered(yaml.safe_load(example))


def test_the_chart_is_of_this_version() -> None:
    """A release of the chart brings the image of the same release."""
    said = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert said["appVersion"] == rdnscache.__version__
