"""The errors that cross a module's border, named by whose fault they are."""


class RdnscacheError(Exception):
    """Base of all errors raised on purpose; its text is one sentence for a person."""


class ConfigError(RdnscacheError):
    """The operator's fault: an option, a configuration file or an address cannot be used."""


class UpstreamFailed(RdnscacheError):
    """No upstream gave a usable reply inside the deadline."""


class StoreDown(RdnscacheError):
    """Redis did not answer, or refused; callers carry on without it."""
