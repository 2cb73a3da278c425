"""What is in deploy/, the Dockerfile and docker-compose.yml, as far as it can be told without containers.

`make compose-test` runs it all in containers.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from support import ROOT, Node, Upstream, clean_env, free_port, run

from rdnscache import metrics
from rdnscache.config import Config, options
from rdnscache.config_text import env_name
from rdnscache.node.supervisor import KILL_MARGIN

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


DEPLOY = ROOT / "deploy"
DRAIN = Config().drain + KILL_MARGIN


def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def needed(command: str) -> str:
    found = shutil.which(command)
    if found is None:
        pytest.skip(f"{command} is not here")
    return found


def test_every_yaml_and_json_file_can_be_read() -> None:
    """No file of the deployment is broken."""
    for path in [*DEPLOY.rglob("*.y*ml"), *ROOT.glob("*.yml"), *ROOT.glob("tests/compose/*.yml")]:
        if "templates" in path.parts:
            continue  # of the chart: tests/test_chart.py renders them
        assert all(each is not None for each in yaml.safe_load_all(path.read_text())), path
    for path in DEPLOY.rglob("*.json"):
        assert json.loads(path.read_text())["title"], path


def test_nodes_can_be_scaled() -> None:
    """A node has no name, port or volume of its own, so there can be any number of them."""
    node = compose()["services"]["node"]

    assert not {"container_name", "hostname", "ports", "volumes"} & set(node)
    assert "RDNSCACHE_NODE_ID" not in node["environment"]
    assert node["deploy"]["replicas"] == 3


def test_who_reads_needs_the_token_for_it() -> None:
    """What is given as ADMIN_READ_TOKEN gets to the nodes, and to the file from which Prometheus takes it."""
    services = compose()["services"]
    scrapes = yaml.safe_load((DEPLOY / "prometheus/prometheus.yml").read_text())["scrape_configs"]
    file = scrapes[0]["authorization"]["credentials_file"]

    assert services["node"]["environment"]["RDNSCACHE_ADMIN_READ_TOKEN"] == "${ADMIN_READ_TOKEN:-}"
    assert services["prometheus"]["environment"]["READ_TOKEN"] == "${ADMIN_READ_TOKEN:-}"
    assert f'printf %s "$$READ_TOKEN" > {file}' in services["prometheus"]["entrypoint"][2]


def test_containers_are_locked() -> None:
    """No service can write to its root, gain privileges, or run an image without a version."""
    for name, service in compose()["services"].items():
        assert service["read_only"] is True, name
        assert service["cap_drop"] == ["ALL"], name
        assert service["security_opt"] == ["no-new-privileges:true"], name
        version = re.search(r":([\w.-]+)\}$", service["image"])
        assert version is not None and version[1] != "latest", name


def test_env_example_lists_every_variable_with_its_default() -> None:
    """A copy of .env.example changes nothing, and leaves nothing out."""
    used = dict(re.findall(r"\$\{(\w+):?-([^}]*)\}", (ROOT / "docker-compose.yml").read_text()))
    lines = (ROOT / ".env.example").read_text().splitlines()

    assert dict(line.split("=", 1) for line in lines if line and not line.startswith("#")) == used


def test_options_in_the_environment_exist() -> None:
    """Every RDNSCACHE_ variable that a container, pod or unit is given is an option."""
    known = {env_name(option) for option in options()} | {"RDNSCACHE_CONFIG", "RDNSCACHE_SERVER", "RDNSCACHE_IMAGE"}
    for path in [ROOT / "Dockerfile", ROOT / "docker-compose.yml", *DEPLOY.rglob("*")]:
        if path.is_file() and path.suffix != ".pyc":
            assert set(re.findall(r"\bRDNSCACHE_[A-Z][A-Z0-9_]*", path.read_text())) <= known, path


def test_every_stop_leaves_time_to_drain() -> None:
    """Containers, pods and the unit are not killed before the node has ended by itself."""
    pods = list(yaml.safe_load_all((DEPLOY / "kubernetes/rdnscache.yaml").read_text()))
    (pod,) = [each["spec"]["template"]["spec"] for each in pods if each["kind"] == "Deployment"]
    (settings,) = [each["data"] for each in pods if each["kind"] == "ConfigMap"]
    node = compose()["services"]["node"]
    unit = (DEPLOY / "systemd/rdnscache.service").read_text()

    lingers = int(node["environment"]["RDNSCACHE_LINGER"])
    assert int(node["stop_grace_period"].removesuffix("s")) > lingers + DRAIN
    assert pod["terminationGracePeriodSeconds"] > int(settings["RDNSCACHE_LINGER"]) + DRAIN
    (timeout,) = re.findall(r"^TimeoutStopSec=(\d+)$", unit, re.MULTILINE)
    assert int(timeout) > DRAIN


def test_compose_accepts_its_file() -> None:
    """`docker compose config` finds nothing wrong, with and without the optional services."""
    words = next((w for w in (["docker", "compose"], ["docker-compose"]) if shutil.which(w[0])
                  and run(*w, "version").returncode == 0), None)  # fmt: skip
    if words is None:
        pytest.skip("docker compose is not here")
    for profiles in ([], ["--profile", "observability", "--profile", "cli"]):
        done = run(*words, "--env-file", str(ROOT / ".env.example"), *profiles, "config", "--quiet")
        assert done.returncode == 0, done.stderr


def test_the_dockerfile_keeps_the_rules() -> None:
    """Base by argument and version, commands without a shell, no root, no address of anybody's index."""
    text = (ROOT / "Dockerfile").read_text()
    final = text.rpartition("\nFROM ")[2]
    base = re.search(r"^ARG BASE=[\w./-]+:([\w.-]+)$", text, re.MULTILINE)

    assert base is not None and base[1] != "latest"
    assert set(re.findall(r"^FROM (\S+)", text, re.MULTILINE)) == {"${BASE}"}
    assert re.search(r"^USER [1-9]\d*:[1-9]\d*$", final, re.MULTILINE)
    assert re.search(r'^ENTRYPOINT \["rdnscache"\]\nCMD \["serve"\]$', final, re.MULTILINE)
    assert re.search(r'^HEALTHCHECK .*CMD \["', final, re.MULTILINE)
    assert "://" not in text
    ignored = (ROOT / ".dockerignore").read_text().split()
    for line in re.findall(r"^COPY ([^-].*)$", text, re.MULTILINE):
        for source in line.split()[:-1]:
            assert (ROOT / source).exists() and f"!{source}" in ignored, source


@pytest.mark.parametrize("listen", ["127.0.0.1", "0.0.0.0"])
def test_the_health_check_asks_the_node_itself(upstream: Upstream, listen: str) -> None:
    """0 when the node answers, 1 when there is none; the upstream hears nothing of it."""
    port = free_port()
    words = [sys.executable, "-IS", str(DEPLOY / "healthy.py")]
    env = clean_env({"RDNSCACHE_LISTEN": f"{listen}:{port}, 127.0.0.1:1"})
    with Node([upstream.address], listen=f"{listen}:{port}"):
        assert run(*words, env=env).returncode == 0
    assert upstream.total() == 0
    assert run(*words, env=env).returncode == 1


def test_dnsdist_accepts_its_configuration() -> None:
    """`dnsdist --check-config`, with and without the options."""
    command = (needed("dnsdist"), "--check-config", "-C", str(DEPLOY / "dnsdist/dnsdist.lua"))
    for extra in ({}, {"CLIENTS": "192.0.2.0/24, 2001:db8::/32", "PROXY_PROTOCOL": "yes"}):
        done = run(*command, env=dict(os.environ) | extra)
        assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_accepts_its_configuration() -> None:
    """`promtool check config`."""
    done = run(needed("promtool"), "check", "config", "--syntax-only", str(DEPLOY / "prometheus/prometheus.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_alerts_fire_when_they_should_and_not_before() -> None:
    """`promtool test rules`: a cluster that is well raises none, and each has a case of its own."""
    done = run(needed("promtool"), "test", "rules", str(DEPLOY / "prometheus/rules_test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_alert_is_tried_and_has_a_runbook() -> None:
    """It fires in one case at least, is silent in that of a healthy cluster, and docs/operations.md says what to do."""
    (group,) = yaml.safe_load((DEPLOY / "prometheus/rules.yml").read_text())["groups"]
    well, *cases = yaml.safe_load((DEPLOY / "prometheus/rules_test.yml").read_text())["tests"]
    alerts = {rule["alert"] for rule in group["rules"]}
    headings = re.findall(r"^### (\w+)$", (ROOT / "docs/operations.md").read_text(), re.MULTILINE)

    assert alerts == {each["alertname"] for each in well["alert_rule_test"]} == set(headings)
    assert alerts == {each["alertname"] for case in cases for each in case["alert_rule_test"] if each["exp_alerts"]}
    for rule in group["rules"]:
        assert rule["annotations"]["runbook"] == f"docs/operations.md#{rule['alert'].lower()}"


def test_dashboards_and_alerts_use_metrics_that_exist() -> None:
    """No panel can be empty, and no alert silent, because of a name."""
    every = (*metrics.METRICS, *metrics.SERVER_METRICS, *metrics.BUDGET_METRICS, metrics.CERTIFICATE_EXPIRY)
    known = {f"rdnscache_{metric.name}" for metric in every} | {"rdnscache_build"}
    for path in [*(DEPLOY / "grafana").glob("*.json"), DEPLOY / "prometheus/rules.yml"]:
        used = re.findall(r"\brdnscache_[a-z0-9_]+", path.read_text())
        assert used, path
        assert {re.sub("_(total|bucket|info)$", "", name) for name in used} <= known, path


def test_the_unit_is_well_formed(tmp_path: Path) -> None:
    """`systemd-analyze verify`, with a command that is there, and with the examples in it."""
    command = needed("systemd-analyze")
    text = (DEPLOY / "systemd/rdnscache.service").read_text()
    for number, here in enumerate((text, re.sub("^#(?=LoadC|Env)", "", text, flags=re.MULTILINE))):
        folder = tmp_path / str(number)
        folder.mkdir()
        unit = folder / "rdnscache.service"
        unit.write_text(here.replace("/opt/rdnscache/bin/rdnscache", shutil.which("true") or "/bin/true"))
        shutil.copy(DEPLOY / "systemd/rdnscache.socket", folder)
        done = run(command, "verify", str(unit), str(folder / "rdnscache.socket"))
        assert done.returncode == 0 and not done.stderr.strip(), done.stderr


def test_the_unit_leaves_little_to_attack(tmp_path: Path) -> None:
    """`systemd-analyze security` gives it two points of ten at most, where ten is the worst."""
    command = needed("systemd-analyze")
    unit = tmp_path / "rdnscache.service"
    shutil.copy(DEPLOY / "systemd/rdnscache.service", unit)
    done = run(command, "security", "--offline=true", "--threshold=20", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is older than 250")
    assert done.returncode == 0, done.stdout


def test_kustomize_takes_all_that_there_is() -> None:
    """Every manifest and every file of Redis, and from a folder that `kubectl apply --filename` does not read."""
    said = yaml.safe_load((DEPLOY / "kustomization.yaml").read_text())
    manifests = sorted((DEPLOY / "kubernetes").iterdir())
    (generated,) = said["configMapGenerator"]

    assert [DEPLOY / name for name in sorted(said["resources"])] == manifests
    assert sorted(DEPLOY / name for name in generated["files"]) == sorted((DEPLOY / "redis").iterdir())
    if kubectl := shutil.which("kubectl"):
        done = run(kubectl, "kustomize", str(DEPLOY))
        assert done.returncode == 0, done.stderr
        made = {(each["kind"], each["metadata"]["name"]) for each in yaml.safe_load_all(done.stdout)}
        plain = {
            (each["kind"], each["metadata"]["name"])
            for path in manifests for each in yaml.safe_load_all(path.read_text())
        }  # fmt: skip
        ((kind, name),) = made - plain
        assert kind == "ConfigMap" and name.startswith("rdnscache-redis-")


def test_the_admin_port_is_not_for_everybody() -> None:
    """In Kubernetes DNS is open to all, the admin port to Prometheus."""
    policy = yaml.safe_load((DEPLOY / "kubernetes/network.yaml").read_text())["spec"]
    open_to_all = {port["port"] for rule in policy["ingress"] if "from" not in rule for port in rule["ports"]}

    assert open_to_all == {"dns-udp", "dns-tcp"}
    assert [rule["ports"] for rule in policy["ingress"] if "from" in rule] == [[{"port": "admin", "protocol": "TCP"}]]


def test_kubernetes_accepts_the_manifests() -> None:
    """Every object fits its schema, strictly."""
    validate = pytest.importorskip("kubernetes_validate", reason="`make manifests` has the schemas, 100 MB")
    for path in (DEPLOY / "kubernetes").glob("*.yaml"):
        for each in yaml.safe_load_all(path.read_text()):
            validate.validate(each, validate.latest_version(), strict=True)
