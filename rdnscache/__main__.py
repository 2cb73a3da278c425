"""`python -m rdnscache` is the `rdnscache` command."""

from rdnscache.cli import main

if __name__ == "__main__":
    main()
