"""The errors that leave a module, named by whose fault they are."""


class RdnscacheError(Exception):
    """Base of all errors raised on purpose; its text is one sentence for a person."""


class ConfigError(RdnscacheError):
    """The operator's fault: an option, a configuration file or an address cannot be used."""


#: Why there is no answer: upstreams said so themselves; they did not respond for this name while they answered other
#: questions; none of them could be reached; this host lacks resources to ask (descriptors, memory, a route); or their
#: budget is used up.
#: The first two are facts about the name, the others about this node.
SAID, SILENT, UNREACHABLE, LOCAL, SPENT = "said", "silent", "unreachable", "local", "spent"
_SERVFAIL = 2


class UpstreamFailed(RdnscacheError):
    """No upstream gave a usable reply inside the deadline.

    `rcode` is what clients are told: SERVFAIL, or REFUSED or NOTIMP where every upstream said that.
    `ede` is the INFO-CODE of the Extended DNS Error for clients: an upstream's, or our own; -1 for none.
    `source` is the last server asked, address and port.
    """

    def __init__(
        self, text: str, rcode: int = _SERVFAIL, ede: int = -1, why: str = UNREACHABLE, source: str = "none"
    ) -> None:
        super().__init__(text)
        self.source = source
        self.rcode = rcode
        self.ede = ede
        self.why = why


class StoreDown(RdnscacheError):
    """Redis did not answer, or refused a command; callers carry on without it."""


class StoreRefused(RdnscacheError):
    """Redis refused a command for want of permission, and would refuse it again."""

    #: How such errors begin.
    words = ("NOPERM", "permission", "WRONGTYPE")

    @classmethod
    def of(cls, told: object, what: str) -> RdnscacheError:
        """The error to raise: this one, or StoreDown when a later attempt may succeed."""
        kind = cls if any(word in str(told) for word in cls.words) else StoreDown
        return kind(f"{what}: {told}"[:200])
