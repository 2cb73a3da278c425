"""The live page, in a real browser and over plain HTTP."""

from __future__ import annotations

import fcntl
import json
import os
import re
import select
import shutil
import signal
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import dns.message
import dns.name
import pytest
from support import (
    Node,
    RedisServer,
    Upstream,
    answer,
    ask,
    default_handler,
    free_port,
    page_status,
    request,
    wait_for,
)

from rdnscache.store.contract import Names
from rdnscache.store.hours import ADD

#: About processes and commands, not about the two forms of the hot modules.
pytestmark = pytest.mark.once


FILES = Path(__file__).parent.parent / "rdnscache" / "admin" / "page"
TOKEN = "sesame"
LAYERS = 8
#: What would run if a name or a record were taken for HTML.
HURT = "<img src=x onerror=hurt()>"
CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium here")


class Browser:
    """A headless Chromium without a profile, driven over a pair of pipes: JSON messages, each with a NUL at its end."""

    def __init__(self) -> None:
        assert CHROMIUM is not None
        self.folder = Path(tempfile.mkdtemp(prefix="rdns-"))
        command = [
            CHROMIUM, "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--disable-background-networking", "--disable-component-update", "--disable-sync", "--mute-audio",
            "--remote-debugging-pipe", f"--user-data-dir={self.folder}", "about:blank",
        ]  # fmt: skip
        theirs_in, self._out = os.pipe()
        self._in, theirs_out = os.pipe()
        # the browser wants them as 3 and 4, which may be taken by something else here: go out of the way first
        high = [fcntl.fcntl(end, fcntl.F_DUPFD, 20) for end in (theirs_in, theirs_out)]
        null = os.open(os.devnull, os.O_RDWR)
        moves = [(null, 0), (null, 1), (null, 2), (high[0], 3), (high[1], 4)]
        actions = [(os.POSIX_SPAWN_DUP2, here, there) for here, there in moves]
        self.pid = os.posix_spawn(CHROMIUM, command, os.environ, file_actions=actions, setpgroup=0)
        for end in (theirs_in, theirs_out, null, *high):
            os.close(end)
        self._pending = b""
        self._number = 0
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, seconds: float = 20, **params: Any) -> dict[str, Any]:
        """The result of a command; events that come meanwhile are kept."""
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        text = json.dumps(message | ({"sessionId": session} if session else {}))
        os.write(self._out, text.encode() + b"\0")
        deadline = time.monotonic() + seconds
        while True:
            told = self._read(deadline)
            if told.get("id") == self._number:
                if "error" in told:
                    raise AssertionError(f"{method}: {told['error']}")
                return dict(told["result"])
            self.events.append(told)

    def _read(self, deadline: float) -> dict[str, Any]:
        while b"\0" not in self._pending:
            if not select.select([self._in], [], [], max(deadline - time.monotonic(), 0))[0]:
                raise AssertionError("the browser does not answer")
            data = os.read(self._in, 1 << 20)
            if not data:
                raise AssertionError("the browser has ended")
            self._pending += data
        message, _, self._pending = self._pending.partition(b"\0")
        return dict(json.loads(message))

    def close(self) -> None:
        try:
            self.call("Browser.close", seconds=5)
            wait_for(lambda: os.waitpid(self.pid, os.WNOHANG)[0], 5)
        except AssertionError:
            os.killpg(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self._in)
        os.close(self._out)
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Page:
    """A tab of its own, with everything it complains about."""

    def __init__(self, browser: Browser, url: str, width: int = 1280, height: int = 900, **media: str) -> None:
        self._browser = browser
        context = browser.call("Target.createBrowserContext")["browserContextId"]
        self._context = context
        target = browser.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        self._session = browser.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")
        self.resize(width, height)
        self.media(**media)
        self.call("Page.navigate", url=url)
        self.wait("location.href != 'about:blank' && document.readyState == 'complete'")

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        return self._browser.call(method, self._session, **params)

    def resize(self, width: int, height: int = 900) -> None:
        self.call("Emulation.setScrollbarsHidden", hidden=width < 700)
        self.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)

    def media(self, **features: str) -> None:
        told = [{"name": name.replace("_", "-"), "value": value} for name, value in features.items()]
        self.call("Emulation.setEmulatedMedia", features=told)

    def run(self, script: str) -> Any:
        """The value of an expression; a promise is waited for."""
        told = self.call("Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True)
        if "exceptionDetails" in told:
            raise AssertionError(told["exceptionDetails"])
        return told["result"].get("value")

    def wait(self, script: str, seconds: float = 15) -> Any:
        return wait_for(lambda: self.run(script), seconds)

    def text(self, selector: str) -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)}).innerText"))

    def wait_text(self, selector: str, wanted: str, seconds: float = 15) -> str:
        """The text of an element, once a pattern is found in it."""
        return str(wait_for(lambda: re.search(wanted, text := self.text(selector)) and text, seconds))

    def click(self, selector: str) -> None:
        """As a mouse does it, where the element is."""
        place = self.run(
            f"(() => {{ const it = document.querySelector({json.dumps(selector)});"
            "it.scrollIntoView({block: 'center'}); const box = it.getBoundingClientRect();"
            "return {x: box.x + box.width / 2, y: box.y + box.height / 2}; })()"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, button="left", clickCount=1, **place)

    def click_name(self, rows: str, part: str) -> None:
        """The first row of a list that has this in it; with the token."""
        self.run(f"document.querySelector('#key').value = '{TOKEN}'")
        has = f"each.textContent.includes({json.dumps(part)})"
        self.run(f"[...document.querySelectorAll('{rows} button')].find((each) => {has}).id = 'chosen'")
        self.click("#chosen")

    def point(self, x: float, y: float) -> None:
        self.call("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def press(self, key: str, code: int, text: str = "") -> None:
        for kind in ("keyDown", "keyUp"):
            typed = {"text": text} if text and kind == "keyDown" else {}
            self.call("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code, **typed)

    def type(self, text: str) -> None:
        self.call("Input.insertText", text=text)

    def look_up(self, name: str, rtype: str = "") -> None:
        """Through the form, until the answer is shown; with the token, which the page keeps if it is needed."""
        self.run("document.querySelector('#found').textContent = ''")
        for box, value in (("#name", name), ("#type", rtype), ("#key", TOKEN)):
            self.run(f"document.querySelector('{box}').value = {json.dumps(value)}")
        self.click("#search .main")
        self.wait_text("#found", r"\S")

    def unlock(self) -> None:
        """Have clients and sampled queries shown."""
        self.run(f"document.querySelector('#unlock-key').value = '{TOKEN}'")
        self.run("document.querySelector('#unlock').requestSubmit()")
        self.wait_text("#asked", r"\S")

    def complaints(self) -> list[str]:
        """Errors of the console, exceptions, and what the Content-Security-Policy has stopped."""
        self.run("1")
        found = []
        for event in self._browser.events:
            if event.get("sessionId") != self._session:
                continue
            params = event["params"]
            if event["method"] == "Runtime.exceptionThrown":
                found.append(str(params["exceptionDetails"]))
            elif event["method"] == "Runtime.consoleAPICalled":
                found.append(str(params["args"]))
            elif event["method"] == "Log.entryAdded" and params["entry"]["level"] in ("warning", "error"):
                found.append(f"{params['entry']['text']} {params['entry'].get('url', '')}")
        return found

    def close(self) -> None:
        self._browser.call("Target.disposeBrowserContext", browserContextId=self._context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with Browser() as found:
        yield found


class Place:
    """Two nodes on one Redis with an admin port each; a flush is allowed from the first alone."""

    def __init__(self, redis: RedisServer, upstream: Upstream, ports: list[int], nodes: list[Node]) -> None:
        self.redis = redis.client()
        self.upstream = upstream
        self.ports = ports
        self.nodes = nodes
        self.urls = [f"http://127.0.0.1:{port}/" for port in ports]

    def held(self, name: str, rtype: str = "A") -> bool:
        return bool(self.redis.exists(f"rdns:1:{{{name}}}:{rtype}"))

    def fill(self, *names: str) -> None:
        """Until each worker has them, and Redis too."""
        for name in names:
            wait_for(lambda name=name: ask(self.nodes[0].port, name, tries=3) and self.held(name))
            ask(self.nodes[1].port, name, tries=3)


def hostile(query: dns.message.Message, transport: str) -> Any:
    """TXT records that are HTML; slowly, so that they are noted as slow queries."""
    if query.question[0].rdtype == dns.rdatatype.TXT:
        return answer(query, f'300 TXT "{HURT}" "</script><script>hurt()</script>"')
    return default_handler(query, transport)


def admin(port: int, node: str, *more: str) -> tuple[str, ...]:
    return ("--node-id", node, "--admin", f"127.0.0.1:{port}", *more)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    ports = [free_port(), free_port()]

    def delay(query: dns.message.Message) -> float:
        return 0.3 if query.question[0].rdtype == dns.rdatatype.TXT else 0.0

    first = ("--admin-token", TOKEN, "--admin-sample", "1")
    with RedisServer() as redis, Upstream(hostile, delay) as upstream:
        with (
            Node([upstream.address], redis.url, 1, admin(ports[0], "n0", *first)) as one,
            Node(
                [upstream.address], redis.url, 1, admin(ports[1], "n1", "--ttl-max", "3600", "--hang-time", "0")
            ) as two,
        ):
            found = Place(redis, upstream, ports, [one, two])
            wait_for(lambda: len(page_status(ports[0])["nodes"]) == 2)
            yield found


@pytest.fixture
def page(browser: Browser, place: Place) -> Iterator[Page]:
    """The page of the node that can flush; nothing may have gone wrong in it, and nothing of the cache has run."""
    with Page(browser, place.urls[0]) as tab:
        tab.run("window.hurt = () => { window.hurts = 1 }")
        tab.wait("document.querySelector('#live').dataset.state == 'live'")
        yield tab
        assert tab.run("window.hurts") is None
        assert tab.run("document.querySelectorAll('img').length") == 0
        assert tab.complaints() == []


class TestHttp:
    def test_the_files_say_what_a_browser_may_do(self, place: Place) -> None:
        """Nothing but our own files, and nobody frames them."""
        for path, kind in (("/", "text/html"), ("/page.css", "text/css"), ("/page.js", "text/javascript")):
            status, headers, body = request(place.ports[0], path)
            assert status == 200
            assert headers["Content-Type"].startswith(kind)
            assert headers["Content-Security-Policy"].startswith("default-src 'self'; img-src 'self' data:")
            assert headers["X-Content-Type-Options"] == "nosniff"
            assert len(body) > 1000

    @pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {TOKEN}"}])
    def test_a_flush_wants_the_token(self, place: Place, headers: dict[str, str]) -> None:
        """Without it, or with another, nothing is forgotten."""
        place.fill("kept.http.test.")
        status, _, body = request(place.ports[0], "/api/flush", headers, "POST", {"all": True})

        assert status == 401
        assert "the admin token" in json.loads(body)["error"]
        assert place.held("kept.http.test.")

    def test_a_node_without_a_token_flushes_nothing(self, place: Place) -> None:
        """403, whatever is sent; and the page is told."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        status, _, body = request(place.ports[1], "/api/flush", headers, "POST", {"all": True})

        assert status == 403
        assert "no admin token" in json.loads(body)["error"]
        assert [page_status(port)["can_flush"] for port in place.ports] == [True, False]

    @pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example"])
    def test_another_name_for_this_machine_is_refused(self, place: Place, host: str) -> None:
        """Against DNS rebinding: no page of theirs can read ours."""
        for path in ("/", "/page.js", "/api/cluster", "/api/lookup?name=a.test"):
            assert request(place.ports[0], path, {"Host": host})[0] == 421
        assert request(place.ports[0], "/", {"Host": f"localhost:{place.ports[0]}"})[0] == 200

    def test_the_files_are_small_and_hold_nothing_inline(self) -> None:
        """No inline script, style or handler, no library, no HTML made from texts."""
        texts = {path.name: path.read_text() for path in FILES.iterdir()}

        assert sum(len(text.encode()) for text in texts.values()) < 64_000
        assert not re.search(r"<style|\sstyle=|\son\w+=|https?://(?!www\.w3\.org)", texts["page.html"])
        assert re.findall(r"<script[^>]*>(.*?)</script>", texts["page.html"]) == [""]
        assert not re.search(r"erHTML|insertAdjacent|document\.write|eval\(|Storage|cookie", texts["page.js"])


@needs_browser
class TestView:
    def test_it_fills_with_the_cluster(self, page: Page, place: Place) -> None:
        """Figures, nodes with what is to remark, upstreams."""
        page.wait_text("#figures", r"Nodes present\s+2/2\s+all there")
        rows = page.wait_text("#nodes", r"(?s)n0.*1/1.*n1.*1/1")

        assert page.text("#self") == "n0"
        assert "ttl_max is 3600, elsewhere 86400" in rows or "ttl_max is 86400, elsewhere 3600" in rows
        assert re.search(r"Look at n[01]", page.text("#nodes-state"))
        assert place.upstream.address in page.text("#upstreams")
        assert page.run("document.title") == "n0 | rdnscache"
        assert page.text("#notice") == ""

    def test_the_chart_has_a_path_for_each_layer(self, page: Page, place: Place) -> None:
        """What was answered gets a height; what is pointed at, by mouse or key, its values; a layer can be left out."""
        for _ in range(200):
            ask(place.nodes[0].port, "chart.test.", tries=3)
        paths = "[...document.querySelectorAll('#chart path')]"
        flat = f"{paths}.map(p => new Set(p.getAttribute('d').match(/,[\\d.]+/g)).size == 1)"
        page.wait(f"!({flat})[0]", 30)
        layers = page.run(f"{paths}.map(p => p.dataset.layer)")

        assert layers == ["l1", "flight", "l2", "follower", "upstream", "stale", "failure", "local"]
        assert page.run(f"new Set({paths}.map(p => getComputedStyle(p).fill)).size") == LAYERS
        assert page.run("document.querySelectorAll('#legend button').length") == LAYERS
        assert page.text("#when") == "now"

        page.run("scrollTo(0, 0)")
        box = page.run("document.querySelector('#chart').getBoundingClientRect().toJSON()")
        page.point(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.wait_text("#when", r"\d\d:\d\d:\d\d")
        page.point(1, 1)
        page.wait_text("#when", "now")
        page.run("document.querySelector('#at').focus()")
        page.press("ArrowLeft", 37)
        page.wait_text("#when", r"\d\d:\d\d:\d\d")
        assert "answers a second" in page.run("document.querySelector('#at').ariaValueText")

        page.click("#legend li:first-child button")
        page.wait(f"({flat})[0]")
        assert page.run("document.querySelector('#legend button').getAttribute('aria-pressed')") == "false"

    @pytest.mark.parametrize("width", [320, 360, 820, 1280])
    def test_nothing_is_wider_than_the_window(self, page: Page, place: Place, width: int) -> None:
        """With the longest of names in every place as well."""
        page.resize(width)
        label = b"a-label-of-sixty-three-octets-".ljust(63, b"x")
        long = dns.name.Name([label, label, label, b"wide", b"test", b""])
        ask(place.nodes[0].port, long, "TXT", tries=3)
        page.wait_text("#slow", "a-label-of-sixty-three")
        page.look_up(long.to_text(), "TXT")
        page.wait_text("#entries", "NOERROR")

        assert page.run("innerWidth") == width
        assert page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth") <= 0
        assert page.run("document.documentElement.scrollWidth") <= width
        page.unlock()
        page.click("#sift button")
        page.wait_text("#sample", "a-label-of-sixty-three")
        for part in ("#lookup", "#hot", "#slow", "#who", "#caches", "#node-orders"):
            element = f"document.querySelector('{part}')"
            assert page.run(f"{element}.scrollWidth - {element}.clientWidth") <= 0, part
        page.click("#flush-zone")
        page.wait("document.querySelector('#ask').open")
        assert page.run("document.querySelector('#ask').getBoundingClientRect().right") <= width

    def test_dark_and_still(self, browser: Browser, place: Place) -> None:
        """What the reader's system prefers: colours, and motion."""
        look = "getComputedStyle(document.documentElement).backgroundColor"
        move = "getComputedStyle(document.querySelector('#live i')).animationName"
        seen = {}
        for scheme, motion in (("light", "no-preference"), ("dark", "reduce")):
            with Page(browser, place.urls[0], prefers_color_scheme=scheme, prefers_reduced_motion=motion) as page:
                page.wait("document.querySelector('#live').dataset.state == 'live'")
                seen[scheme] = (page.run(look), page.run(move))

        lightness = {scheme: sum(map(int, re.findall(r"\d+", color))) for scheme, (color, _) in seen.items()}
        assert lightness["light"] > 3 * 220 > 3 * 40 > lightness["dark"]
        assert seen["light"][1] == "breathe"
        assert seen["dark"][1] == "none"

    def test_everything_has_a_name(self, page: Page) -> None:
        """What a screen reader says of the controls and the headings."""
        page.call("Accessibility.enable")
        nodes = page.call("Accessibility.getFullAXTree")["nodes"]
        wanted = ("button", "textbox", "combobox", "slider", "heading", "table", "search")
        named = [
            (node["role"]["value"], node.get("name", {}).get("value", ""))
            for node in nodes
            if not node["ignored"] and node["role"]["value"] in wanted
        ]
        assert {"Look up", "Name", "Nodes", "Moment of the time shown"} <= {name for _, name in named}
        assert [role for role, name in named if not name and role != "search"] == []

    def test_without_redis(self, browser: Browser, upstream: Upstream) -> None:
        """This node alone, and words where there is nothing to show."""
        port = free_port()
        args = admin(port, "alone", "--admin-token", TOKEN)
        with Node([upstream.address], "none", args=args), Page(browser, f"http://127.0.0.1:{port}/") as page:
            page.wait_text("#notice", "alone works without Redis: only this node is shown")
            page.wait_text("#nodes", "(?s)alone.*1/1.*none")
            assert page.text("#quiet") == "No queries in the last five minutes."
            assert page.text("#no-hot") == "They are counted in Redis."
            assert page.text("#no-slow") == "None recently."
            page.wait_text("#figures", r"Nodes present\s+\S\s+others cannot be seen")
            assert page.text("#figures").count("this node only") == 4
            assert page.run("[...document.querySelector('#search').elements].every((each) => each.disabled)")
            assert page.run("document.querySelector('#flush').hidden")
            assert page.run("[...document.querySelector('#which').options].map((each) => each.value)") == ["alone"]
            assert page.run("document.querySelector('#flush-orders').checkVisibility()") is False
            page.wait_text("#caches", r"L2\s+none")

    def test_while_redis_is_away_nothing_is_said_of_others(self, browser: Browser, upstream: Upstream) -> None:
        """What is shown of this node only says so; when Redis is back, so are the others."""
        port = free_port()
        with RedisServer() as redis, Node([upstream.address], redis.url, args=admin(port, "seen")) as node:
            wait_for(lambda: "attached to Redis" in node.log())
            with Page(browser, f"http://127.0.0.1:{port}/") as page:
                page.wait_text("#figures", r"Nodes present\s+1/1\s+all there")
                redis.kill()
                page.wait_text("#figures", r"Nodes present\s+\S\s+others cannot be seen")
                page.wait_text("#notice", "seen cannot use Redis")
                redis.start()
                page.wait_text("#figures", r"Nodes present\s+1/1\s+all there", 30)

    def test_no_bar_is_longer_than_its_place(self, page: Page, place: Place) -> None:
        """Also where the hottest name is another one by now, or is asked more often."""
        for score in (100, 5000, 20):
            hot = {"{one.bar.test.}:A": score, "{two.bar.test.}:A": 50, "seconds": 10}
            place.redis.delete("rdns:1:hot")
            place.redis.zadd("rdns:1:hot", hot)
            most = max(list(hot.values())[:2]) / 10
            wait_for(lambda most=most: [each["qps"] for each in page_status(place.ports[0])["hot"]][:1] == [most])
            page.wait_text("#hot", "bar.test")
            page.wait("Boolean(document.querySelector('#hot .bar i').style.width)")
            bars = "[...document.querySelectorAll('#hot .bar i')]"
            widths = page.run(f"{bars}.map((each) => parseFloat(each.style.width))")
            assert all(0 <= width <= 100 for width in widths), widths

    def test_a_node_that_is_gone_and_comes_back(self, browser: Browser, upstream: Upstream) -> None:
        """The page says so, keeps what it has, and goes on by itself."""
        port, listen = free_port(), f"127.0.0.1:{free_port()}"
        args = admin(port, "phoenix")
        with Node([upstream.address], "none", args=args, listen=listen) as node:
            with Page(browser, f"http://127.0.0.1:{port}/") as page:
                page.wait_text("#nodes", "1/1")
                node.stop()
                page.wait_text("#live-text", r"phoenix does not answer; what you see is from \d\d:")
                assert "1/1" in page.text("#nodes")
                assert "(no answer)" in page.run("document.title")
                with Node([upstream.address], "none", args=args, listen=listen):
                    page.wait_text("#live-text", "^live$")
                    assert page.run("document.title") == "phoenix | rdnscache"


@needs_browser
class TestLookup:
    def test_records_and_places(self, page: Page, place: Place) -> None:
        """Every variant with what there is to know, and each worker that holds it; one type alone when asked for."""
        place.fill("www.seen.test.")
        ask(place.nodes[0].port, "www.seen.test.", "MX", tries=3)
        wait_for(lambda: place.held("www.seen.test.", "MX"))
        page.look_up("WWW.seen.test")
        found = page.text("#entries")

        assert "2 entries of WWW.seen.test" in page.text("#found")
        assert "www.seen.test. 300 IN A 192.0.2.1" in found
        assert re.search(r"www\.seen\.test\. A\s+NOERROR", found)
        assert re.search(r"www\.seen\.test\. MX\s+NOERROR", found)
        assert re.search(r"fresh, \d+ seconds left", found)
        assert re.search(r"n0: worker 0 \(\d+ s\)\nn1: worker 0 \(\d+ s\)", found)
        page.look_up("www.seen.test", "mx")
        assert "1 entry of www.seen.test MX" in page.text("#found")

    def test_what_is_not_there(self, page: Page) -> None:
        """A name without entries is said to have none."""
        page.look_up("nobody.asked.test")
        assert "Nothing is cached of nobody.asked.test" in page.text("#found")

    def test_what_is_no_name(self, browser: Browser, place: Place) -> None:
        """The node's own sentence."""
        with Page(browser, place.urls[0]) as page:
            page.look_up("a..test")
            assert page.text("#found") == "'a..test' is not a domain name."
            page.look_up("a.test", "nonsense")
            assert page.text("#found") == "'NONSENSE' is not a DNS type."

    def test_a_hot_name_can_be_chosen(self, page: Page, place: Place) -> None:
        """A click on a hot name looks it up, and the keyboard goes where the answer is."""
        for _ in range(50):
            ask(place.nodes[0].port, "hot.test.", tries=3)
        page.wait_text("#hot", r"hot\.test\. A", 30)
        page.click_name("#hot", "hot.test. A")
        page.wait_text("#entries", "hot.test. 300 IN A 192.0.2.1")
        assert page.run("document.activeElement.id") == "found"

    def test_a_hostile_name_is_only_text(self, page: Page, place: Place) -> None:
        """HTML in labels, in records, and in what a forged member tells: shown, never run. The fixture looks, too."""
        name = dns.name.Name([HURT.encode(), b"<script>hurt()</script>", b"bad", b"test", b""])
        ask(place.nodes[0].port, name, "TXT", tries=3)
        told = {"version": HURT, "form": HURT, "workers": 1, "started": 0, "upstreams": [{"address": HURT, "ms": 1}],
                "slow": [{"time": "x", "name": {"a": HURT}, "type": None, "layer": HURT, "ms": HURT}],
                "config": {HURT: HURT}}  # fmt: skip
        who = f"{HURT}.1a2b3c4d.0"
        place.redis.set(f"rdns:1:node:{who}", json.dumps(told), ex=3600)
        place.redis.zadd("rdns:1:nodes", {who: time.time()})
        try:
            page.wait(f"document.querySelector('#nodes').textContent.includes({json.dumps(HURT)})")
            assert HURT in page.text("#upstreams")
            page.wait_text("#slow", r"script\\062hurt")
            page.click_name("#slow", "script\\062hurt")
            page.wait_text("#entries", "NOERROR")
            assert HURT in page.text("#entries")
            assert "</script><script>hurt()</script>" in page.text("#entries")
            page.look_up(HURT)
            page.look_up(name.to_text())
            page.wait_text("#entries", "NOERROR")
        finally:
            place.redis.zrem("rdns:1:nodes", who)
            place.redis.delete(f"rdns:1:node:{who}")


@needs_browser
class TestFlush:
    def test_there_is_no_button_where_it_is_off(self, browser: Browser, place: Place) -> None:
        """A node without a token shows entries and offers no flush."""
        place.fill("off.test.")
        with Page(browser, place.urls[1]) as page:
            page.wait("document.querySelector('#live').dataset.state == 'live'")
            page.look_up("off.test")
            page.wait_text("#entries", "NOERROR")
            assert page.text("#self") == "n1"
            assert page.run("document.querySelector('#flush').checkVisibility()") is False

    def test_a_name_with_the_proof(self, page: Page, place: Place) -> None:
        """The token is asked for once, whether to, too; then Redis and every L1 have forgotten it, and it is said."""
        place.fill("www.gone.test.", "kept.gone.test.")
        page.run("document.querySelector('#name').value = 'www.gone.test'")
        page.run("document.querySelector('#key').focus()")
        page.type(TOKEN)
        page.press("Enter", 13, "\r")
        page.wait_text("#entries", "NOERROR")
        assert page.run("document.querySelector('#key').checkVisibility()") is False
        page.click("#flush-name")
        assert page.text("#ask-title") == "Flush www.gone.test?"
        assert page.run("document.activeElement.id") == "keep"
        page.click("#go")
        proof = page.wait_text("#proof", "confirmed")

        told = r"Flushed www\.gone\.test\.: 1 entry in Redis, 2 in local caches; confirmed by 2/2 nodes, \d+ ms\."
        assert re.fullmatch(told, proof)
        page.wait_text("#found", "Nothing is cached of www.gone.test")
        assert not place.held("www.gone.test.")
        assert place.held("kept.gone.test.")
        stores = "[localStorage.length, sessionStorage.length, document.cookie, location.search + location.hash]"
        assert page.run(stores) == [0, 0, "", ""]

    def test_its_zone(self, page: Page, place: Place) -> None:
        """The zone above is offered first; the page knows the token from looking the name up."""
        names = ("a.zone.test.", "b.zone.test.")
        for _ in range(2):
            place.fill(*names)
            page.look_up("a.zone.test")
            assert page.run("[...document.querySelector('#zone').options].map(o => o.value)") == [
                "a.zone.test.", "zone.test.", "test.",
            ]  # fmt: skip
            page.click("#flush-zone")
            assert page.text("#ask-title") == "Flush zone.test. and everything below it?"
            assert page.run("document.querySelector('#token').checkVisibility()") is False
            page.click("#go")
            page.wait_text("#proof", r"Flushed zone zone\.test\.: 2 entries in Redis.*confirmed by 2/2 nodes")
            assert not any(map(place.held, names))

    def test_a_wrong_token_is_told_and_another_asked_for(self, browser: Browser, place: Place) -> None:
        """When looking up, and in the dialog when it is no longer the token."""
        place.fill("still.test.")
        with Page(browser, place.urls[0]) as page:
            page.wait("document.querySelector('#live').dataset.state == 'live'")
            page.run("document.querySelector('#name').value = 'still.test'")
            page.run("document.querySelector('#key').value = 'simsalabim'")
            page.click("#search .main")
            page.wait_text("#found", "this is not the admin token")
            assert page.run("document.querySelector('#key').checkVisibility()")
            page.look_up("still.test")
            page.wait_text("#entries", "NOERROR")
            page.run("window.fetched = fetch; window.fetch = () => Promise.resolve(new Response('{}', {status: 401}))")
            page.click("#flush-name")
            page.click("#go")
            page.wait("document.querySelector('#token').checkVisibility()")
            page.run("window.fetch = fetched")
            page.run("document.querySelector('#token').focus()")
            page.type(TOKEN)
            page.press("Enter", 13, "\r")
            page.wait_text("#proof", "confirmed by 2/2 nodes")
            assert not place.held("still.test.")

    def test_it_can_be_thought_over(self, page: Page, place: Place) -> None:
        """Closed by its button or by Escape, the question flushes nothing."""
        place.fill("dear.test.")
        page.look_up("dear.test")
        for how in ("#keep", "Escape"):
            page.click("#flush-name")
            page.wait("document.querySelector('#ask').open")
            if how == "Escape":
                page.press(how, 27)
            else:
                page.click(how)
            page.wait("!document.querySelector('#ask').open")
        assert place.held("dear.test.")
        assert page.text("#proof") == ""

    def test_who_has_not_confirmed_is_named(self, page: Page, place: Place) -> None:
        """A stopped worker of the other node; when it goes on, the table is whole again."""
        place.fill("slow.test.")
        page.look_up("slow.test")
        (worker,) = place.nodes[1].children()
        os.kill(worker, signal.SIGSTOP)
        try:
            page.click("#flush-name")
            page.click("#go")
            page.wait_text(
                "#proof", r"confirmed by 1/2 nodes, \d+ ms\. n1 has not confirmed: no confirmation from worker 0\."
            )
            assert page.run("document.querySelector('#proof').dataset.tone") == "bad"
            page.wait_text("#figures", "1/2\\s+not heard of: n1")
            assert page.run("document.querySelectorAll('#nodes .sick').length") == 1
        finally:
            os.kill(worker, signal.SIGCONT)
        page.wait_text("#figures", "2/2\\s+all there")


@needs_browser
class TestTraffic:
    def test_what_comes_and_how_quick_answers_are(self, page: Page, place: Place) -> None:
        """RCODEs, types and times; the memory of L1 and Redis with what was pushed out of them."""
        for each in range(3):
            ask(place.nodes[0].port, f"t{each}.traffic.test", "TXT", tries=3)
        page.wait_text("#rcodes", r"NOERROR\s+[\d.]+/s")
        page.wait_text("#types", r"TXT\s+[\d.<>]+%")
        page.wait_text("#latency", r"99% within\s+\d\S* (ms|µs|s)")
        assert re.search(r"Of \d+ answers? of the last", page.text("#latency-span"))
        caches = page.text("#caches")
        assert re.search(
            r"L1\s+\d+ entries, room for 200,000\s+\S+ [KM]?i?B of 128.0 MiB \(\S+\)\s+0 evictions", caches
        )
        assert re.search(r"L2\s+\d+ keys, claims and the like included\s+\S+ [KM]iB, no limit\s+0 evictions", caches)

    def test_an_hour_is_shown_when_it_is_asked_for(self, page: Page, place: Place) -> None:
        """From Redis, in steps of a minute, with times; and back to the last minutes."""
        names, minute = Names("rdns"), int(time.time()) // 60
        for each in range(minute - 30, minute - 10):
            place.redis.eval(ADD.source.decode(), 1, names.hour(each), "l1", 6000, "seconds.5", 6000)
        page.click("#hour")
        page.wait("document.querySelector('#at').max == '59'")
        assert page.run("document.querySelector('#hour').ariaPressed") == "true"
        assert page.text("#when") == "last minute"
        page.run("document.querySelector('#at').focus()")
        for _ in range(20):
            page.press("ArrowLeft", 37)
        page.wait_text("#total", "100 answers/s")
        page.wait_text("#moment-times", r"In this minute half of the answers took up to 1\.8 ms, 99% up to 2\.5 ms")
        page.click("#minutes")
        page.wait_text("#when", "now")

    def test_clients_and_sampled_queries_want_the_token(self, page: Page, place: Place) -> None:
        """Then who asks, and queries by words; a name that is HTML is only text."""
        name = dns.name.Name([HURT.encode(), b"sampled", b"test", b""])
        ask(place.nodes[0].port, name, "A", tries=3)
        page.wait_text("#who-state", "are shown to who has the admin token")
        assert page.run("document.querySelector('#who').checkVisibility()") is False
        page.unlock()
        page.wait_text("#asked", r"127\.0\.0\.1\s+\d+")
        page.wait_text("#who-state", r"Networks of clients \(/24, /56\), queries of the last")
        assert page.text("#limited") == "none"
        page.run("document.querySelector('#words').value = 'SAMPLED.test noerror'")
        page.click("#sift button")
        assert "onerror" in page.wait_text("#sample", r"sampled\.test\. A")
        assert re.search(r"\d+ of \d+ sampled queries of n0", page.text("#sample-state"))
        assert "127.0.0.1" in page.text("#sample")

    def test_a_tab_that_is_hidden_asks_nothing(self, page: Page) -> None:
        """And goes on at once when it is seen again."""
        page.run(
            "window.asked = 0; window.fetched = fetch;"
            "window.fetch = (...all) => { window.asked += 1; return fetched(...all); }"
        )
        hide = "Object.defineProperty(document, 'hidden', {value: %s, configurable: true});"
        event = "document.dispatchEvent(new Event('visibilitychange'))"
        page.run(hide % "true" + event)
        page.run("window.asked = 0")
        assert page.run("new Promise((done) => setTimeout(() => done(window.asked), 3000))") == 0
        page.run(hide % "false" + event)
        page.wait("window.asked > 0", 2)


@needs_browser
class TestNodes:
    def test_many_are_sorted_and_filtered(self, page: Page, place: Place) -> None:
        """By any column, both ways, and by words of their names and remarks; absent ones can be forgotten."""
        workers = {f"many{number}.1a2b3c4d.0": number for number in range(12)}
        for who, number in workers.items():
            told = {"workers": 1, "started": time.time() - 100 * number, "time": time.time(), "version": "1",
                    "recent": {"queries.udp": 60 * number}, "recent_seconds": 6}  # fmt: skip
            place.redis.set(f"rdns:1:node:{who}", json.dumps(told), ex=3600)
            place.redis.zadd("rdns:1:nodes", {who: time.time() + (600 if number else -60)})
        rows = "[...document.querySelectorAll('#nodes tbody th')].map((each) => each.lastChild.textContent)"
        try:
            page.wait(f"{rows}.length == 14")
            page.run("document.querySelector('#filter').value = 'many'")
            page.run("document.querySelector('#filter').dispatchEvent(new Event('input'))")
            assert page.run(rows) == [f"many{number}" for number in range(12)]
            assert "12 of 14 are shown" in page.text("#nodes-state")
            for wanted in (range(11, -1, -1), range(12)):
                page.click("#heads th:nth-child(4) button")
                assert page.run(rows) == [f"many{number}" for number in wanted]
            assert page.run("document.querySelector('[aria-sort]').ariaSort") == "ascending"
            page.run("document.querySelector('#which').value = 'many0'")
            page.run("document.querySelector('#which').dispatchEvent(new Event('change'))")
            assert page.run("document.querySelector('#reload').checkVisibility()") is False
            page.click("#forget")
            page.type(TOKEN)
            page.press("Enter", 13, "\r")
            page.wait_text("#order-proof", "many0 is not expected any more")
            page.wait(f"!{rows}.includes('many0')")
        finally:
            for who in workers:
                place.redis.zrem("rdns:1:nodes", who)
                place.redis.delete(f"rdns:1:node:{who}")

    def test_options_and_a_reload(self, page: Page, place: Place) -> None:
        """What differs from the defaults, then all; every node says how it has done what was ordered."""
        page.unlock()
        page.run("document.querySelector('#which').value = 'n0'")
        page.click("#show-config")
        page.wait_text("#config-options", r"admin_token\s+\*\*\*")
        assert "ttl_max" not in page.text("#config-options")
        page.click("#config-set")
        page.wait_text("#config-options", r"ttl_max\s+86400")
        assert TOKEN not in page.text("#config-options")
        page.click("#config-close")
        page.run("document.querySelector('#which').value = ''")
        page.click("#reload")
        assert page.text("#ask-title") == "Reload all nodes?"
        page.click("#go")
        page.wait_text("#order-proof", r"Reload done by 2/2 nodes\.$", 60)

    def test_answers_of_one_rcode_are_flushed(self, page: Page, place: Place) -> None:
        """With the proof; the others stay."""
        place.fill("stays.rcode.test.")
        ask(place.nodes[0].port, "gone.nx", tries=3)
        wait_for(lambda: place.held("gone.nx.", "NXDOMAIN"))
        page.unlock()
        page.run("document.querySelector('#rcode').value = 'NXDOMAIN'")
        page.click("#flush-rcode")
        assert page.text("#ask-title") == "Flush all NXDOMAIN answers?"
        page.click("#go")
        page.wait_text("#flush-proof", "Flushed rcode NXDOMAIN: .*confirmed by 2/2 nodes")
        assert not place.held("gone.nx.", "NXDOMAIN")
        assert place.held("stays.rcode.test.")


class TestBlocking:
    def test_a_pause_is_shown_and_ended(self, page: Page, place: Place) -> None:
        """With the token; every node confirms, and the page says so."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        assert page.run("document.querySelector('#blocking').checkVisibility()") is False
        status, _, body = request(place.ports[0], "/api/blocking", headers, "POST", {"pause": True})
        told = json.loads(body)
        assert (status, told["complete"], sorted(told["confirmed_ms"])) == (200, True, ["n0", "n1"])
        page.wait_text("#blocking-state", "Paused on 2 of 2 nodes")
        page.click("#resume")
        page.type(TOKEN)
        page.press("Enter", 13, "\r")
        assert page.wait_text("#blocking-proof", "confirmed").startswith("Blocking is resumed; confirmed by 2/2 nodes")

    @pytest.mark.parametrize("told", [{}, {"pause": -1}, {"pause": "x"}, {"pause": 10**12}, [1], {"pause": None}])
    def test_what_is_no_pause(self, place: Place, told: object) -> None:
        """Refused with a sentence; nothing is paused."""
        headers = {"Authorization": f"Bearer {TOKEN}"}
        status, _, body = request(place.ports[0], "/api/blocking", headers, "POST", told)
        assert (status, "pause is true, or seconds" in json.loads(body)["error"]) == (400, True)
        assert request(place.ports[0], "/api/blocking", {}, "POST", {"pause": True})[0] == 401
        assert request(place.ports[1], "/api/blocking", headers, "POST", {"pause": True})[0] == 403
