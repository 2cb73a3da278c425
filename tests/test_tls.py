"""TLS to Redis: certificates checked, ours shown where the server wants it, users and passwords from URL and file."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import Node, Server, Upstream, ask, command, free_port, nodes_on, telling, until_shared, wait_for

REDIS, OPENSSL = shutil.which("redis-server"), shutil.which("openssl")


def _speaks_tls() -> bool:
    found = subprocess.run([str(REDIS), "--tls-port", "0", "--port", "x"], capture_output=True, text=True, check=False)
    return "Bad directive" not in found.stdout + found.stderr


pytestmark = [
    pytest.mark.once,
    pytest.mark.skipif(
        not REDIS or not OPENSSL or not _speaks_tls(), reason="there is no redis-server with TLS, or no openssl here"
    ),
]


class Papers:
    """A certificate authority, and certificates it has signed: one for 127.0.0.1 and localhost, one for a client."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._run("req", "-x509", "-subj", "/CN=test", "-keyout", "ca.key", "-out", "ca.crt", "-days", "2")
        for name, alternative in (("server", "IP:127.0.0.1,DNS:localhost"), ("client", "DNS:client")):
            (folder / f"{name}.ext").write_text(f"subjectAltName={alternative}\n")
            self._run("req", "-subj", f"/CN={name}", "-keyout", f"{name}.key", "-out", f"{name}.csr")
            subprocess.run(
                [str(OPENSSL), "x509", "-req", "-in", f"{name}.csr", "-CA", "ca.crt", "-CAkey", "ca.key",
                 "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out", f"{name}.crt"],
                cwd=folder, check=True, capture_output=True,
            )  # fmt: skip

    def _run(self, *words: str) -> None:
        key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
        subprocess.run([str(OPENSSL), *words, *key], cwd=self._folder, check=True, capture_output=True)

    def __getitem__(self, name: str) -> str:
        return str(self._folder / name)


@pytest.fixture(scope="module")
def papers(tmp_path_factory: pytest.TempPathFactory) -> Papers:
    return Papers(tmp_path_factory.mktemp("papers"))


@pytest.fixture
def server(papers: Papers, tmp_path: Path) -> Iterator[Server]:
    """It wants a client's certificate, and the user `dns` with the password `hunter2`, who may do what we need only."""
    users = tmp_path / "users.acl"
    users.write_text(
        "user default off\n"
        "user dns on >hunter2 resetchannels &rdns:* ~rdns:* +@all -@admin -@dangerous\n"
        "user root on >root allcommands allkeys allchannels\n"
    )
    options = {
        "tls-port": "", "tls-cert-file": papers["server.crt"], "tls-key-file": papers["server.key"],
        "tls-ca-cert-file": papers["ca.crt"], "tls-auth-clients": "yes", "aclfile": str(users),
    }  # fmt: skip
    with Server(str(REDIS), options) as found:
        yield found


def test_mutual_tls_with_a_user_and_a_password_file(server: Server, papers: Papers, tmp_path: Path) -> None:
    """Two nodes share answers; the password is in no log, no argument and no report."""
    secret = tmp_path / "secret"
    secret.write_text("hunter2\n")
    shown = f"ssl_ca_certs={papers['ca.crt']}&ssl_certfile={papers['client.crt']}&ssl_keyfile={papers['client.key']}"
    url = f"rediss://dns@localhost:{server.port}/0?password_file={secret}&{shown}"
    with Upstream(telling, delay=0.05) as upstream, nodes_on(url, upstream, 2) as nodes:
        took = until_shared(nodes, upstream, (f"tls-{number}.example." for number in range(99)))
        print(f"shared after {took:.2f} s")
        listed = command("cache", "ls", "--json", "--redis", url)
        assert "tls-0.example." in listed.stdout, listed.stderr
        members = command("cluster", "status", "--json", "--redis", url)
        assert len(json.loads(members.stdout)) == 2
        checked = command("check-config", "--json")
        arguments = [Path(f"/proc/{pid}/cmdline").read_bytes() for node in nodes for pid in node.children()]
        texts = [node.log() for node in nodes] + [members.stdout, checked.stdout, repr(arguments)]
        assert "hunter2" not in "".join(texts)


def test_a_cluster_over_tls(papers: Papers) -> None:
    """Every link of a worker, and the commands of people; a cluster of one, which does not know its own address."""
    options = {
        "tls-port": "", "tls-cert-file": papers["server.crt"], "tls-key-file": papers["server.key"],
        "tls-ca-cert-file": papers["ca.crt"], "tls-auth-clients": "no", "cluster-enabled": "yes",
        "cluster-port": str(free_port()), "requirepass": "hunter2", "tls-cluster": "yes",
    }  # fmt: skip
    with Server(str(REDIS), options) as server, Upstream(telling, delay=0.05) as upstream:
        client = server.client(ssl=True, ssl_ca_certs=papers["ca.crt"], password="hunter2")
        client.execute_command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        wait_for(lambda: b"cluster_state:ok" in client.execute_command("CLUSTER", "INFO"))
        url = f"valkeys+cluster://:hunter2@localhost:{server.port}?ssl_ca_certs={papers['ca.crt']}"
        with nodes_on(url, upstream, 2) as nodes:
            until_shared(nodes, upstream, (f"tls-{number}.example." for number in range(99)))
            flushed = command("cache", "flush", "--all", "--json", "--redis", url)
            assert set(json.loads(flushed.stdout)["confirmed_ms"]) == {"n0", "n1"}, flushed.stderr
            assert "hunter2" not in "".join(node.log() for node in nodes)


@pytest.mark.parametrize(
    ("parameters", "reason"),
    [
        # the server's alert, or that it hangs up behind it: whichever is met first
        ("ssl_ca_certs={ca.crt}", "certificate required|EOF occurred in violation|closed by the server"),
        ("ssl_certfile={client.crt}&ssl_keyfile={client.key}", "certificate is refused: self-signed certificate in"),
    ],
    ids=["no certificate of ours", "an unknown authority"],
)
def test_refused_connections(server: Server, papers: Papers, parameters: str, reason: str) -> None:
    """The node answers without Redis, and says why it has none."""
    for name in ("ca.crt", "client.crt", "client.key"):
        parameters = parameters.replace(f"{{{name}}}", papers[name])
    url = f"rediss://dns:hunter2@localhost:{server.port}?{parameters}"
    with Upstream(telling) as upstream, Node([upstream.address], redis=url) as node:
        assert ask(node.port, "alone.example.").answer
        wait_for(lambda: "no Redis, carrying on without" in node.log())
        wait_for(lambda: re.search(f"(?i){reason}", node.log()))
        assert "hunter2" not in node.log() and "attached" not in node.log()


def test_the_name_in_the_certificate_counts(server: Server, papers: Papers) -> None:
    """A server under another name than its certificate's is refused, unless that is switched off."""
    shown = f"ssl_ca_certs={papers['ca.crt']}&ssl_certfile={papers['client.crt']}&ssl_keyfile={papers['client.key']}"
    wrong = f"rediss://dns:hunter2@127.0.0.2:{server.port}?{shown}"
    root = server.client(
        username="root", password="root", ssl=True, ssl_ca_certs=papers["ca.crt"], ssl_certfile=papers["client.crt"],
        ssl_keyfile=papers["client.key"],
    )  # fmt: skip
    root.config_set("bind", "127.0.0.1 127.0.0.2")
    with Upstream(telling) as upstream:
        with Node([upstream.address], redis=wrong) as node:
            wait_for(lambda: "IP address mismatch" in node.log())
        with Node([upstream.address], redis=wrong + "&ssl_check_hostname=no") as node:
            wait_for(lambda: "attached to Redis" in node.log())


def test_a_password_that_changes(tmp_path: Path) -> None:
    """The file is read for each connection: the next one comes with the new password."""
    secret = tmp_path / "secret"
    secret.write_text("old\n")
    with Server(str(REDIS), {"requirepass": "old"}) as server, Upstream(telling) as upstream:
        with Node([upstream.address], redis=f"redis://127.0.0.1:{server.port}?password_file={secret}") as node:
            wait_for(lambda: "attached to Redis" in node.log())
            client = server.client(password="old")
            client.config_set("requirepass", "new")
            secret.write_text("new\n")
            client.client_kill_filter(_type="pubsub")
            wait_for(lambda: node.log().count("attached to Redis") == 2)
