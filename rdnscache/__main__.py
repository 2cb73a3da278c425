"""The `rdnscache` command, also as `python -m rdnscache`."""

import signal


def main() -> None:
    """Run the command. Ctrl-C while its code is loaded ends it without a traceback, like other programs."""
    heard = signal.getsignal(signal.SIGINT) is signal.default_int_handler  # else it is ignored, by a shell's `&`
    if heard:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    from rdnscache.cli import main as run

    if heard:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    run()


if __name__ == "__main__":
    main()
