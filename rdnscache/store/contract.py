"""The Redis contract: every key, value, script and message, defined here only. The scripts about members and events are
in `steering`, that of the hottest questions is in `heat`.

Keys (`rdns` is the configurable prefix, 1 the version of this contract):

    rdns:1:{<name>}:<TYPE>[:<CLASS>][:do][:cd]        HASH    an entry: `info`, `answer`, `wire`, with a secret `mac`
    rdns:1:{<name>}:<TYPE>[:<CLASS>][:do][:cd]#lead   STRING  the leader's token, for as long as its lease;
                                                              renewed while the leader is at work
    rdns:1:{<name>}:<TYPE>[:<CLASS>][:do][:cd]#wait   SET     the wake channels of the followers
    rdns:1:{<name>}:NXDOMAIN[:<CLASS>][:do][:cd]      HASH    an entry that holds for all types: the name does not exist
    rdns:1:control                                    STREAM  the last control events (flushes), capped
    rdns:1:{probe}:probe#lead, …#wait                 as above; claimed to see whether Redis works again
    rdns:1:{<server>}:budget                          HASH    the budget of an upstream, and each node's share of it;
                                                              see `allotment`
    rdns:1:hot                                        ZSET    the questions asked most, as entry keys without prefix
    rdns:1:{odd}:entries                              ZSET    entries whose keys cannot be guessed from a name, and
                                                              until when each may exist
    rdns:1:{hour}:<minute since 1970>                 ZSET    the counts of the cluster in a minute, see `hours`
    rdns:1:nodes                                      ZSET    the register: `<node>.<incarnation>.<worker>` of every
                                                              worker, and its last heartbeat; `since`: its beginning
    rdns:1:node:<node>.<incarnation>.<worker>         STRING  the report of a worker, as JSON
    rdns:1:{rdns:1:control}:flushing                  HASH    flushes under way, as events, and the ID of each
    rdns:1:{again}:<ID>, {deleting}:<ID>              STRING  locks: announcing a lost event again, deleting for a flush
    rdns:1:{<tag>}:swept                              STRING  in a Redis Cluster, for each primary: the flushes it has
                                                              been swept for
    rdns:1:{<tag>}:sweeping                           STRING  lock: a worker repeats flushes that the primary has lost
    rdns:1:wake:<node>.<incarnation>.<worker>         channel where a worker is woken
    rdns:1:control                                    channel where control events are announced
    rdns:1:acks                                       channel where workers confirm them

Entries, claims, followers, marks and locks belong to a version (VERSION). All else steers the whole cluster and stays
under 1 (STEERING), whatever the version of the entries: the register, reports, events and their channels, budgets, the
hottest questions, the last hour, wake channels. Its form is only ever extended. A worker's report has its version as
`contract`; a flush deletes the entries of each version that is reported. So two things hold for every version: keys
begin with `<prefix>:<version>:{<name>}:<TYPE>`, followed by `#lead` for a claim, and `info` begins with `rcode=`.

`<name>` is the lower-case presentation form with its final dot; every octet of a label outside `[a-z0-9_-]` is `\\DDD`,
so the braces hold the whole name, and an entry, its claim and its followers are in one cluster slot.
The class is left out if it is IN. After `:cd` there may be `:ecs=192.0.2.0/24`: the client subnet that was sent to
the upstream (RFC 7871); it is in the lead and wait keys as well. A reply with scope 0, for all networks, is stored
under the key without it; every other one has the upstream's `scope` in its `info`, after `why`.
Before that there may be `:via=0123456789abcdef`: a view that asks upstreams of its own. It is a digest of these
upstreams, how they are asked, and the limits of TTLs, so views of several nodes with the same ones share entries.

NXDOMAIN holds for a name, not for a type (RFC 2308 section 5), so such a reply is stored once, under the name's
NXDOMAIN key, whatever type was asked for; storing another answer for the name deletes it. An NXDOMAIN reply with a
CNAME says that the name asked for exists, and is stored under its type.

An entry's fields are readable for people:

    info    rcode=NOERROR ttl=300 stale=3600 stored=2026-11-23T07:00:00Z from=192.0.2.53 node=n1
    answer  www.example.com. 300 IN A 192.0.2.1          (one record a line, zone-file form)
    wire    the reply: ID 0, lower-case question, no OPT
    mac     1:8c22c7a1f1a2c41b1a1ad44a0fb9b5e1            (only where the nodes have a secret)

`mac` is the ID of the secret that signed, a colon, and a MAC in hexadecimal: 16 octets of BLAKE2b over key, `info` and
`wire`, a newline between. Its parameters: key, the BLAKE2b of the secret's text, 32 octets with person `rdnscache key`;
salt, the ID; person, `rdnscache entry`. A node with secrets uses no entry whose `mac` was made with none of them, nor
one whose `stored` and PTTL give ages more than 300 s apart: an old entry put back. So clocks may differ by that much.

`route`, after `node`, is the zone whose own upstreams were asked.
A stored failure has `why` in its `info`, after these: `said` (the upstream in `from` answered SERVFAIL) or
`silent` (it answered other questions meanwhile, but never this one). These are facts about the name. A reader trusts
them if it would have asked that upstream itself, or if its own node wrote them; else it asks its own upstreams. That
the leader cannot reach an upstream says nothing about the name, and is not stored. `ede`, after that, is the Extended
DNS Error that an upstream sent with any answer (RFC 8914).

The data path reads `wire` and `info`, and `mac` if there is a secret. A key expires `ttl + stale` seconds after it was
stored, so its age is `ttl + stale - PTTL` whatever the nodes' clocks say, and it is stale when less than `stale` is
left.

A wake message is the key of the question, the entry's `info`, its `mac` if it has one, and its `wire`, separated by
newlines. The entry is fresh: its age is 0. A `wire` begins with a zero octet and a `mac` does not. A message with the
key only says that the leader has given its claim back, because it cannot reach its upstreams: a follower may lead.
A control event is a JSON object: `{"event": "flush"}` for everything, narrowed by `name`, `zone`, `type` and `rcode`;
or `{"event": "reload"}` or `restart`, with `node` for a single node. The message is the event's ID, a space and the
object, with the ID of the preceding event as `after`: a worker that does not know that one has missed an event. A
worker confirms a flush on the channel for acknowledgements:
`{"event": "<ID>", "node": "n1", "incarnation": "1a2b3c4d", "worker": 0, "entries": 3}`.
A second event, with the ID of the first as `of`, says that its entries are deleted. Until then the flush is in
`flushing`, and workers that know of it ignore the entries in its scope whose `seen`, the last word in `info`, is an
earlier event or absent: the last event that the node which stored the entry had heard of.
A question to all workers is not an event and is not kept: `? {"event": "look", "id": "<any>", "name":
"www.example.com."}` on the control channel; each answers on the channel for acknowledgements, as `held`, with its
entries of that name in L1.

Only the holder of a claim stores: a fill with another token, or after the claim has expired, does nothing.
A flush replaces the tokens of current leaders by `flushed`: their answers go to their own clients only, their followers
are woken without an answer, and the next worker to claim leads.

The mark of a primary of a Redis Cluster is the IDs of the flushes whose entries are deleted there, the newest first,
separated by spaces, 200 at most; `<ID>?` if a worker deleted them while the flush was under way. `<tag>` is six octal
digits, chosen so that the key is in the first slot of the primary. The mark is written after the last deletion, over
the same connection: a server that has it, such as a promoted replica, has deleted the entries as well.

The incarnation is 8 hexadecimal digits that a node makes when it starts; two nodes with the same name differ in it.
Times in the register are by the clock of Redis, in seconds. A worker that finds itself missing there enters all the
workers it knows again.
"""

from __future__ import annotations

import re

from rdnscache.dns.names import (
    CLASSES,
    LONGEST_TEXT,
    NAME_WORD,
    OWN_NAME,
    class_number,
    class_text,
    name_text,
    parse_name,
    type_number,
    type_text,
)
from rdnscache.dns.question import (
    ANY_TYPE,
    ROUTE_SIZE,
    VARIANT_CD,
    VARIANT_DO,
    VARIANT_ROUTE,
    VARIANT_SUBNET,
    qclass,
    qtype,
    question_key,
    route_of,
    subnet,
    variant,
    with_route,
    with_subnet,
)
from rdnscache.dns.splice import cut
from rdnscache.dns.subnet import parse_subnet, subnet_text
from rdnscache.dns.wire import IN, TCP_SIZE
from rdnscache.store.packing import spell, widen
from rdnscache.store.script import Script

VERSION = "1"
#: The version in the keys and channels that all versions share.
STEERING = "1"
#: The format of `stored`, in UTC.
TIME_FORM = "%Y-%m-%dT%H:%M:%SZ"
#: Control events kept for nodes that lost their connection.
EVENTS_KEPT = 1000
#: Seconds between two heartbeats of a worker.
BEAT = 2.0
#: Seconds without a heartbeat after which a worker counts as away.
SILENCE = 3 * BEAT + 0.5
#: Seconds for which a worker that has not signed off is remembered.
MEMBER_TTL = 3600

#: Replaces the ID of an event in a question to all workers.
LOOK = b"?"
#: The maximum lease of a claim in seconds, for all nodes, whatever their options: a longer one was not set by a node
#: and is taken over.
LEASE = 1.5
#: The suffix that makes an entry's key the key of its claim.
CLAIM_SUFFIX = "#lead"
#: The token a flush leaves.
FLUSHED = b"flushed"

#: Octets of `info` that are read, and of `mac`.
LONGEST_INFO = 400

#: ARGV[5] of a claim for which no entry counts as fresh, because the one in Redis is not trusted.
NOTHING_FRESH = 10**12

#: KEYS entry, lead, wait, the name's NXDOMAIN; ARGV token, lease in ms, wake channel, 1 if we have followed already, ms
#: that an entry must have left to count as fresh, and with a secret the name of the field `mac`.
#: Returns a verdict (outcomes.Verdict), rest of the lease in ms, PTTL of the entry, 1 if it is the name's NXDOMAIN,
#: wire, info, and with a secret mac; wire and info are nil without an entry.
#: A value of another type counts as absent; the reader deletes what it cannot use. One that is too large is deleted.
#: Most claims find nothing, so plain commands are sent first, in one packet: SET NX of the lead, then EXISTS of both
#: entries; in this order, since a fill stores before it frees the lead. If they find something, this script follows.
CLAIM = Script(
    b"""
local fresh, left, for_name, wire, info, mac = false, 0, 0, false, false
if redis.call('EXISTS', KEYS[1], KEYS[4]) > 0 then
  local function look(key)
    local v = redis.pcall('HMGET', key, 'wire', 'info', unpack(ARGV, 6))
    local wire, info = v[1], v[2]
    if not (wire and info) then return false, 0, false, false end
    if #wire > %(wire)d or #info > %(info)d or (v[3] and #v[3] > %(info)d) then
      redis.call('UNLINK', key)
      return false, 0, false, false
    end
    local left = redis.call('PTTL', key)
    local stale = tonumber(string.match(info, ' stale=(%%d+)')) or 0
    return left > stale * 1000 + tonumber(ARGV[5]), left, wire, info, v[3]
  end
  fresh, left, wire, info, mac = look(KEYS[1])
  if not fresh then
    local name_fresh, name_left, name_wire, name_info, name_mac = look(KEYS[4])
    if name_fresh or (name_wire and not wire) then
      fresh, left, wire, info, mac, for_name = name_fresh, name_left, name_wire, name_info, name_mac, 1
    end
  end
end
if fresh and redis.pcall('GET', KEYS[2]) == ARGV[1] then redis.call('DEL', KEYS[2]) end
if fresh then return {1, 0, left, for_name, wire, info, mac} end
if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then
  return {2, tonumber(ARGV[2]), left, for_name, wire, info, mac}
end
local rest, owner = redis.call('PTTL', KEYS[2]), redis.pcall('GET', KEYS[2])
if owner == ARGV[1] then return {2, rest, left, for_name, wire, info, mac} end
local flushed = ARGV[4] == '0' and owner == 'flushed'
if rest < 0 or rest > %(lease)d or flushed then -- nodes set no claim without expiry, or with a later one
  redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])
  return {2, tonumber(ARGV[2]), left, for_name, wire, info, mac}
end
if type(redis.pcall('SADD', KEYS[3], ARGV[3])) ~= 'number' then
  redis.call('DEL', KEYS[3])
  redis.call('SADD', KEYS[3], ARGV[3])
end
redis.call('PEXPIRE', KEYS[3], ARGV[2])
return {3, rest, left, for_name, wire, info, mac}
"""
    % {b"wire": TCP_SIZE, b"info": LONGEST_INFO, b"lease": round(LEASE * 1000)}
)

#: KEYS entry, lead, wait; ARGV token, lease in ms. Renews the lease of a leader that is still at work.
RENEW = Script(
    b"""
if redis.pcall('GET', KEYS[2]) == ARGV[1] then redis.call('PEXPIRE', KEYS[2], ARGV[2]) end
return 0
"""
)

#: What a fill does besides waking the followers: `store` replaces the entry, `name` the name's NXDOMAIN; `failure` is
#: stored unless there is an answer; `pass` (TTL 0) is not stored; `release` gives the claim back without an answer.
STORE, STORE_NAME, FAILURE, PASS, RELEASE = b"store", b"name", b"failure", b"pass", b"release"

#: KEYS entry, lead, wait, the name's NXDOMAIN; ARGV token, kind, lifetime in ms, info, answer, wire, and with a secret
#: `mac` and the MAC.
#: Returns -1 if the claim is not ours any more, else the number of channels woken. The answer of a worker that has lost
#: its claim may be older than a flush, so it is not published: among the followers there may be queries from after the
#: flush. pcall: the claim must be freed even if Redis is full.
FILL = Script(
    b"""
local owner, kind = redis.pcall('GET', KEYS[2]), ARGV[2]
if owner == 'flushed' then
  kind = 'release'
elseif owner ~= ARGV[1] then
  return -1
end
local target
if kind == 'store' or kind == 'name' then
  target = KEYS[kind == 'store' and 1 or 4]
  redis.call('DEL', KEYS[1], KEYS[4])
elseif kind == 'failure' and redis.call('EXISTS', KEYS[4]) == 0 then
  local known = redis.pcall('HMGET', KEYS[1], 'info')[1]
  if type(known) ~= 'string' or string.find(known, 'rcode=SERVFAIL ', 1, true) == 1 then
    target = KEYS[1]
    redis.call('DEL', target)
  end
end
if target then
  local r = redis.pcall('HSET', target, 'info', ARGV[4], 'answer', ARGV[5], 'wire', ARGV[6], unpack(ARGV, 7))
  if type(r) == 'number' then redis.call('PEXPIRE', target, ARGV[3]) end
end
local waiting = redis.pcall('SMEMBERS', KEYS[3])
redis.call('DEL', KEYS[2], KEYS[3])
if #waiting > 0 then
  local message = KEYS[1] .. '\\n'
  if kind ~= 'release' then
    message = message .. ARGV[4] .. '\\n' .. (ARGV[8] and ARGV[8] .. '\\n' or '') .. ARGV[6]
  end
  for i = 1, #waiting do redis.call('PUBLISH', waiting[i], message) end
end
return #waiting
"""
)

_NAME_WORD = NAME_WORD.encode()
#: Precede the route of a view, and a client subnet, in an entry's key.
_ROUTE_WORD, _SUBNET_WORD = ":via=", ":ecs="
#: What is behind the name in the keys of entries met last, by type, class and variant.
_tails: dict[bytes, bytes] = {}
_MANY = 1000


def _tail(key: bytes) -> bytes:
    """What is behind the name in an entry's key."""
    number, klass, bits = qtype(key), qclass(key), variant(key)
    text = f"}}:{NAME_WORD if number == ANY_TYPE else type_text(number)}"
    text += f":{class_text(klass)}" if klass != IN else ""
    text += (":do" if bits & VARIANT_DO else "") + (":cd" if bits & VARIANT_CD else "")
    text += f"{_ROUTE_WORD}{route_of(key).hex()}" if bits & VARIANT_ROUTE else ""
    text += f"{_SUBNET_WORD}{subnet_text(subnet(key))}" if bits & VARIANT_SUBNET else ""
    tail = text.encode("ascii")
    if not bits & (VARIANT_ROUTE | VARIANT_SUBNET) and len(_tails) < _MANY:
        _tails[cut(key, len(key) - 5, len(key))] = tail
    return tail


class Names:
    """The keys and channels for a prefix; those of entries are for one version."""

    def __init__(self, prefix: str, version: str = "") -> None:
        self._prefix = prefix
        self.root = f"{prefix}:{version or VERSION}:"
        self._head = f"{self.root}{{".encode()
        #: The beginning of the keys that all versions share.
        self.steering = f"{prefix}:{STEERING}:"
        self.control = f"{self.steering}control".encode()
        self.acks = f"{self.steering}acks".encode()
        self.nodes = f"{self.steering}nodes".encode()
        self.hot = f"{self.steering}hot".encode()
        self.odd = f"{self.root}{{odd}}:entries".encode()
        #: This key is in the slot of the control stream.
        self.flushing = f"{self.steering}{{{self.steering}control}}:flushing".encode()
        #: Maximum characters of an entry's key.
        self._longest = len(self.root) + LONGEST_TEXT + 130
        self._key = re.compile(
            re.escape(self.root)
            + rf"\{{(?P<name>{OWN_NAME})\}}:"
            + r"(?P<type>[A-Z0-9-]+)(?::(?P<class>[A-Z0-9]+))?(?P<do>:do)?(?P<cd>:cd)?"
            + rf"(?:{_ROUTE_WORD}(?P<route>[0-9a-f]{{{2 * ROUTE_SIZE}}}))?"
            + rf"(?:{_SUBNET_WORD}(?P<subnet>[0-9a-f.:]{{2,39}}/[0-9]{{1,3}}))?"
        )

    def of(self, version: str) -> Names:
        """The names for another version."""
        return Names(self._prefix, version)

    def wake(self, worker_id: str) -> bytes:
        return f"{self.steering}wake:{worker_id}".encode()

    def node(self, worker_id: str) -> bytes:
        return f"{self.steering}node:{worker_id}".encode()

    def probe(self, tag: str = "probe") -> bytes:
        """The key of an entry that never exists: a probe claims it, at the server of the tag's slot."""
        return f"{self.root}{{{tag}}}:probe".encode()

    def budget(self, server: str) -> bytes:
        """The budget of a server, named as in URLs."""
        return f"{self.steering}{{{server}}}:budget".encode()

    def again(self, event_id: str) -> bytes:
        return f"{self.root}{{again}}:{event_id}".encode()

    def deleting(self, event_id: str) -> bytes:
        return f"{self.steering}{{deleting}}:{event_id}".encode()

    def swept(self, tag: str) -> bytes:
        """The mark of a primary; the tag is for the first of its slots."""
        return f"{self.root}{{{tag}}}:swept".encode()

    def sweeping(self, tag: str) -> bytes:
        return f"{self.root}{{{tag}}}:sweeping".encode()

    def hour(self, minute: int) -> bytes:
        return f"{self.steering}{{hour}}:{minute}".encode()

    def entries_of(self, name: bytes) -> str:
        """The beginning of the keys of all entries of a name."""
        return f"{self.root}{{{name_text(name)}}}:"

    def entry(self, key: bytes) -> bytes:
        """The Redis key of a question."""
        tail = _tails.get(cut(key, len(key) - 5, len(key)))
        return spell(self._head, key, _tail(key) if tail is None else tail)

    def wider_entry(self, entry: bytes) -> bytes:
        """The Redis key for `wider_key` of a question, made from the Redis key of the question."""
        return widen(entry, _NAME_WORD)

    def words(self, text: str) -> tuple[str, str] | None:
        """The name and type in an entry's Redis key; None if it does not have that form."""
        match = self._key.fullmatch(text) if len(text) <= self._longest else None
        return (match["name"], match["type"]) if match is not None else None

    def question(self, text: str) -> bytes | None:
        """The question's key for an entry's Redis key; None if it is not an entry's."""
        match = self._key.fullmatch(text) if len(text) <= self._longest else None
        if match is None:
            return None
        try:
            word = match["type"]
            number = ANY_TYPE if word == NAME_WORD else type_number(word)
            klass = class_number(match["class"] or CLASSES[IN])
            name = parse_name(match["name"])
            network = parse_subnet(match["subnet"]) if match["subnet"] else b""
        except ValueError:
            return None
        bits = (VARIANT_DO if match["do"] else 0) | (VARIANT_CD if match["cd"] else 0)
        key = question_key(name, number, klass, bits)
        if match["route"]:
            key = with_route(key, bytes.fromhex(match["route"]))
        if network:
            key = with_subnet(key, network)
        return key if self.entry(key).decode("ascii") == text else None
