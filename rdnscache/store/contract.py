"""The Redis contract: every key, value, script and message, and nothing else. The only home of these facts in the code;
the scripts about members and events are in `steering`.

Keys (`rdns` is the configurable prefix, 1 the version of this contract):

    rdns:1:{<name>}:<TYPE>[:<CLASS>][:do][:cd]        HASH    an entry: `info`, `answer`, `wire`, and perhaps `mac`
    rdns:1:{<name>}:<TYPE>[:<CLASS>][:do][:cd]#lead   STRING  the leader's token, for as long as its lease;
                                                              renewed while the leader is at work
    rdns:1:{<name>}:<TYPE>[:<CLASS>][:do][:cd]#wait   SET     the wake channels of the followers
    rdns:1:control                                    STREAM  the last control events (flushes), capped
    rdns:1:{probe}:probe#lead, …#wait                 as above; claimed to see whether Redis works again
    rdns:1:hot                                        ZSET    the questions asked most, as entry keys without prefix
    rdns:1:nodes                                      ZSET    the register: `<node>.<incarnation>.<worker>` of every
                                                              worker, and when it last spoke; `since`: when it began
    rdns:1:node:<node>.<incarnation>.<worker>         STRING  what a worker says of itself, as JSON
    rdns:1:{again}:<ID>                               STRING  a worker announces this lost event again
    rdns:1:wake:<node>.<incarnation>.<worker>         channel where a worker is woken
    rdns:1:control                                    channel where control events are announced
    rdns:1:acks                                       channel where workers say that they have applied one

`<name>` is the lower-case presentation form with its final dot; every octet of a label outside `[a-z0-9_-]` is `\\DDD`,
so the braces hold the whole name, and an entry, its claim and its followers are in one cluster slot.
The class is left out where it is IN.

An entry's fields are made for people:

    info    rcode=NOERROR ttl=300 stale=3600 stored=2026-11-23T07:00:00Z from=192.0.2.53 node=n1
    answer  www.example.com. 300 IN A 192.0.2.1          (one record a line, zone-file form)
    wire    the reply: ID 0, lower-case question, no OPT
    mac     1:8c22c7a1f1a2c41b1a1ad44a0fb9b5e1            (only where the nodes have a secret)

`mac` is the ID of the secret that signed, a colon, and a MAC in hexadecimal: 16 octets of BLAKE2b over key, `info` and
`wire`, a newline between. Its parameters: key, the BLAKE2b of the secret's text, 32 octets with person `rdnscache key`;
salt, the ID; person, `rdnscache entry`. A node with secrets uses no entry whose `mac` none of them made, nor one whose
`stored` and PTTL say ages more than 300 s apart: that is an old entry put back. So clocks may differ by that much.

The data path reads `wire` and `info`, and `mac` if there is a secret. A key expires `ttl + stale` seconds after it was
stored, so its age is `ttl + stale - PTTL` whatever the nodes' clocks say, and it is stale when less than `stale` is
left.

A wake message is the entry's key, its `info`, its `mac` if it has one, and its `wire`, a newline between. It is fresh:
age 0. A `wire` begins with a zero octet and a `mac` does not.
A control event is a JSON object: `{"event": "flush"}` for everything, narrowed by `name`, `zone`, `type` and `rcode`;
or `{"event": "reload"}` or `restart`, with `node` for one of them. The message is the event's ID, a space and the
object, with the ID of the event before it as `after`: who does not know that one has missed something. A worker answers
a flush on the channel for acknowledgements:
`{"event": "<ID>", "node": "n1", "incarnation": "1a2b3c4d", "worker": 0, "entries": 3}`.
A question to all workers is no event and is not kept: `? {"event": "look", "id": "<any>", "name": "www.example.com."}`
on the control channel; each says on the channel for acknowledgements, as `held`, what it has of that name in L1.

A flush puts the token `flushed` in place of those of the leaders it meets: what these bring wakes their followers but
is not stored, and whoever comes anew leads.

The incarnation is 8 hexadecimal digits that a node makes when it starts: two nodes of one name differ in it. Times in
the register are by the clock of Redis, in seconds. Whoever finds itself missing there enters all it knows again.
"""

from __future__ import annotations

import hashlib
import re

from rdnscache.dns.entry import Entry
from rdnscache.dns.names import (
    CLASSES,
    LONGEST_TEXT,
    OWN_NAME,
    class_number,
    class_text,
    name_text,
    parse_name,
    rcode_text,
    type_number,
    type_text,
)
from rdnscache.dns.wire import IN, VARIANT_CD, VARIANT_DO, Reply, parse_reply

VERSION = "1"
#: How `stored` is written, in UTC.
TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
#: Control events kept for nodes that lost their connection.
EVENTS_KEPT = 1000
#: Seconds between two words of a worker about itself.
BEAT = 2.0
#: Seconds without a word after which a worker counts as away.
SILENCE = 3 * BEAT + 0.5
#: Seconds for which a worker that said no goodbye is remembered.
MEMBER_TTL = 3600


#: Stands for the ID of an event in a question to all workers.
LOOK = b"?"
#: What follows an entry's key in its claim's.
CLAIM_SUFFIX = "#lead"
#: The token a flush leaves.
FLUSHED = b"flushed"


class Script:
    """A Lua script and the digest Redis knows it by."""

    def __init__(self, source: bytes) -> None:
        self.source = source
        self.sha = hashlib.sha1(source).hexdigest().encode()


ENTRY, LEAD, FOLLOW = 1, 2, 3

#: KEYS entry, lead, wait; ARGV token, lease in ms, wake channel, 1 if we have followed already, ms that an entry must
#: have left to count as fresh, and with a secret the name of the field `mac`.
#: Returns verdict, rest of the lease in ms, wire, info, PTTL of the entry, and with a secret mac; wire and info are nil
#: without an entry.
#: A value of another type counts as absent; the reader deletes what it cannot use.
CLAIM = Script(
    b"""
local v = redis.pcall('HMGET', KEYS[1], 'wire', 'info', unpack(ARGV, 6))
local wire, info, left = v[1], v[2], 0
if wire and info then
  left = redis.call('PTTL', KEYS[1])
  local stale = tonumber(string.match(info, ' stale=(%d+)')) or 0
  if left > stale * 1000 + tonumber(ARGV[5]) then return {1, 0, wire, info, left, v[3]} end
else
  wire, info = false, false
end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {2, tonumber(ARGV[2]), wire, info, left, v[3]}
end
local rest = redis.call('PTTL', KEYS[2])
local flushed = ARGV[4] == '0' and redis.pcall('GET', KEYS[2]) == 'flushed'
if rest < 0 or rest > tonumber(ARGV[2]) or flushed then -- with no expiry, or a later one, it is nobody's of ours
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return {2, tonumber(ARGV[2]), wire, info, left, v[3]}
end
if type(redis.pcall('SADD', KEYS[3], ARGV[3])) ~= 'number' then
  redis.call('DEL', KEYS[3])
  redis.call('SADD', KEYS[3], ARGV[3])
end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return {3, rest, wire, info, left, v[3]}
"""
)

#: KEYS entry, lead, wait; ARGV token, lease in ms. From a leader that is still at work: its lease begins anew.
RENEW = Script(
    b"""
if redis.pcall('GET', KEYS[2]) == ARGV[1] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return 0
"""
)

STORE, FAILURE, PASS = b"store", b"failure", b"pass"

#: KEYS entry, lead, wait; ARGV token, kind, lifetime in ms, info, answer, wire, and with a secret `mac` and the MAC.
#: Kind `store` replaces the entry, `failure` stores it where nothing usable is, `pass` (TTL 0) only wakes.
#: Returns -1 when another leads, else how many channels were woken. pcall: a full Redis must not keep the claim.
FILL = Script(
    b"""
local owner, kind = redis.pcall('GET', KEYS[2]), ARGV[2]
if owner == 'flushed' then
  kind = 'pass'
elseif type(owner) == 'string' and owner ~= ARGV[1] then
  return -1
end
if kind == 'store' or (kind == 'failure' and redis.call('EXISTS', KEYS[1]) == 0) then
  redis.pcall('DEL', KEYS[1])
  local r = redis.pcall('HSET', KEYS[1], 'info', ARGV[4], 'answer', ARGV[5], 'wire', ARGV[6], unpack(ARGV, 7))
  if type(r) == 'number' then redis.call('PEXPIRE', KEYS[1], ARGV[3]) end
end
local waiting = redis.pcall('SMEMBERS', KEYS[3])
redis.call('DEL', KEYS[2], KEYS[3])
if #waiting > 0 then
  local message = KEYS[1] .. '\\n' .. ARGV[4] .. '\\n' .. (ARGV[8] and ARGV[8] .. '\\n' or '') .. ARGV[6]
  for i = 1, #waiting do redis.call('PUBLISH', waiting[i], message) end
end
return #waiting
"""
)


#: Questions kept in `hot`, the seconds after which a query counts half, the key's lifetime in ms.
HOT_KEPT, HOT_HALF_LIFE, HOT_LIFETIME = 1000, 600, 86_400_000
#: What a steady query a second amounts to there.
HOT_UNIT = HOT_HALF_LIFE / 0.6931
_HOT_STEP = 60_000

#: KEYS hot; ARGV question, queries, and so on. Every minute all scores are aged, by the key's own expiry: no clock is
#: asked. A value of another type makes room.
HEAT = Script(
    b"""
local left = redis.call('PTTL', KEYS[1])
local age = %(lifetime)d - left
if redis.call('TYPE', KEYS[1]).ok ~= 'zset' then
  redis.call('DEL', KEYS[1])
  left = -1
elseif left < 0 or age >= %(step)d then
  redis.call('ZREMRANGEBYRANK', KEYS[1], 0, -%(kept)d - 1)
  redis.call('ZUNIONSTORE', KEYS[1], 1, KEYS[1], 'WEIGHTS', left < 0 and 1 or 0.5 ^ (age / %(half)d))
  left = -1
end
for i = 1, #ARGV, 2 do redis.call('ZINCRBY', KEYS[1], ARGV[i + 1], ARGV[i]) end
if left < 0 then redis.call('PEXPIRE', KEYS[1], %(lifetime)d) end
return 0
"""
    % {b"lifetime": HOT_LIFETIME, b"step": _HOT_STEP, b"kept": HOT_KEPT, b"half": HOT_HALF_LIFE * 1000}
)


class Names:
    """The keys and channels of one prefix."""

    def __init__(self, prefix: str) -> None:
        self.root = f"{prefix}:{VERSION}:"
        self.control = f"{self.root}control".encode()
        self.acks = f"{self.root}acks".encode()
        self.nodes = f"{self.root}nodes".encode()
        self.hot = f"{self.root}hot".encode()
        #: No question's: what is claimed to see whether claims work.
        self.probe = f"{self.root}{{probe}}:probe".encode()
        #: Characters of an entry's key: more is not looked at.
        self._longest = len(self.root) + LONGEST_TEXT + 100
        self._key = re.compile(
            re.escape(self.root)
            + rf"\{{(?P<name>{OWN_NAME})\}}:"
            + r"(?P<type>[A-Z0-9-]+)(?::(?P<class>[A-Z0-9]+))?(?P<do>:do)?(?P<cd>:cd)?"
        )

    def wake(self, place: str) -> bytes:
        return f"{self.root}wake:{place}".encode()

    def node(self, place: str) -> bytes:
        return f"{self.root}node:{place}".encode()

    def again(self, event_id: str) -> bytes:
        return f"{self.root}{{again}}:{event_id}".encode()

    def entry(self, key: bytes) -> bytes:
        """The Redis key of a question."""
        qclass = key[-3] << 8 | key[-2]
        text = f"{self.root}{{{name_text(key)}}}:{type_text(key[-5] << 8 | key[-4])}"
        if qclass != IN:
            text += f":{class_text(qclass)}"
        if key[-1] & VARIANT_DO:
            text += ":do"
        if key[-1] & VARIANT_CD:
            text += ":cd"
        return text.encode("ascii")

    def question(self, text: str) -> bytes | None:
        """The key a Redis key stands for; None when it is not an entry's."""
        match = self._key.fullmatch(text) if len(text) <= self._longest else None
        if match is None:
            return None
        try:
            numbers = (type_number(match["type"]), class_number(match["class"] or CLASSES[IN]))
            name = parse_name(match["name"])
        except ValueError:
            return None
        variant = (VARIANT_DO if match["do"] else 0) | (VARIANT_CD if match["cd"] else 0)
        key = name + numbers[0].to_bytes(2, "big") + numbers[1].to_bytes(2, "big") + bytes((variant,))
        return key if self.entry(key).decode("ascii") == text else None


def glob_escape(text: str) -> str:
    return re.sub(r"([\\*?\[\]])", r"\\\1", text)


def pattern_text(pattern: str) -> str:
    """What a person typed as a glob over names, as a pattern over our presentation form.

    `*`, `?` and `[...]` keep their meaning. Raises ValueError for what can be no name.
    """
    if not re.search(r"[*?\[\]]", pattern):
        return glob_escape(name_text(parse_name(pattern)))
    text = pattern.lower()
    if not text.endswith((".", "*", "]")):
        text += "."
    return re.sub(r"[^a-z0-9_.*?\[\]-]", lambda match: "".join(f"\\\\{c:03d}" for c in match[0].encode()), text)


def info_text(rcode: int, ttl: int, stale: int, stored: str, source: str, node: str) -> str:
    return f"rcode={rcode_text(rcode)} ttl={ttl} stale={stale} stored={stored} from={source} node={node}"


_INFO = re.compile(rb"rcode=[A-Z0-9]+ ttl=([0-9]{1,7}) stale=([0-9]{1,7}) stored=[0-9TZ:-]{1,30} ([ -~]{1,200})")
#: The few origins there are, each kept once.
_origins: dict[bytes, str] = {}
_MANY_ORIGINS = 1000


#: Instead of a PTTL: the entry has just been made.
JUST_STORED = -3


def decode(key: bytes, info: object, wire: object, left_ms: object, now: float) -> Entry | None:
    """The entry for a question from what Redis holds; None when it cannot be used.

    Checked: the form of `info`, that `wire` is a whole reply to this very question, and that the time left (its PTTL,
    in ms) is set and not longer than the entry's own times.
    """
    if not isinstance(info, bytes) or not isinstance(wire, bytes) or not isinstance(left_ms, int):
        return None
    match = _INFO.fullmatch(info)
    reply = parse_reply(wire)
    if match is None or reply is None or reply.question() != key[:-1] or reply.rcode > 15:
        return None
    if len(reply.wire) != len(wire):  # OPT, or octets behind the last record: nothing a node stores
        return None
    ttl, stale = int(match[1]), int(match[2])
    lifetime = (ttl + stale) * 1000
    if left_ms == JUST_STORED:
        left_ms = lifetime
    if not 0 <= left_ms <= lifetime or not _ttls_hold(reply, ttl):
        return None
    return Entry(key, reply, now - (lifetime - left_ms) / 1000, ttl, stale, _origin(match[3]))


def read_wake(message: bytes) -> tuple[bytes, bytes, bytes, bytes | None]:
    """The key, `info`, `wire` and `mac` of a wake message; None for the last where it has none."""
    name, _, rest = message.partition(b"\n")
    info, _, wire = rest.partition(b"\n")
    mac = None
    if wire[:1] != b"\0":
        mac, _, wire = wire.partition(b"\n")
    return name, info, wire, mac


def _origin(told: bytes) -> str:
    origin = _origins.get(told)
    if origin is None:
        if len(_origins) >= _MANY_ORIGINS:
            _origins.clear()
        origin = _origins[told] = told.decode("ascii")
    return origin


def _ttls_hold(reply: Reply, ttl: int) -> bool:
    """No record may have a TTL its entry outlives: ageing would pass zero."""
    wire = reply.wire
    for index in range(0, len(reply.ttls), 2):
        at = reply.ttls[index] << 8 | reply.ttls[index + 1]
        if int.from_bytes(wire[at : at + 4], "big") < ttl:
            return False
    return True
