"""docker-compose.yml in real containers: brought up, asked, scaled, broken and rolled. `make compose-test`.

Docker and compose are needed, root as well where no Docker runs yet, and debootstrap where no registry can be reached.
Three to five minutes. Exit code 1 when a check fails.
"""

from __future__ import annotations

import sys
import time

from checks import all_checks
from engine import Engine, Failed
from images import make_images
from stack import Stack


def main() -> int:
    began, failed = time.monotonic(), 0
    try:
        with Engine() as engine:
            images = make_images(engine)
            print(f"images made in {time.monotonic() - began:.0f} s")
            stack = Stack(engine, images)
            try:
                for what, good, told in all_checks(stack):
                    failed += not good
                    print(f"{'ok  ' if good else 'FAIL'}  {what}\n      {told}", flush=True)
                if failed:
                    print(stack.logs())
            except Exception:
                print(stack.logs())
                raise
            finally:
                stack.down()
    except Failed as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{'all hold' if not failed else f'{failed} do not hold'}, {time.monotonic() - began:.0f} s")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
