"""A bridge for containers. The engine manages no firewall rules: two that manage the same ones break each other."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from tests.engine.shell import run, succeeds


class Bridge:
    """Containers reach what this machine reaches, by its address."""

    def __init__(self, owner: Path) -> None:
        """`owner` is the folder of whose containers it is: names and addresses of bridges are the whole machine's."""
        mark = hashlib.sha256(os.fsencode(owner)).hexdigest()
        self.name = f"fb-{mark[:8]}"
        # Of the range set aside for testing devices, which no home or office network uses.
        self._subnet = f"198.19.{int(mark[:2], 16)}"

    def make(self) -> None:
        """Make it. Forwarding stays on when the engine stops: others may have come to need it."""
        if not succeeds("ip", "link", "show", self.name):
            run("ip", "link", "add", self.name, "type", "bridge")
            run("ip", "address", "add", f"{self._subnet}.1/24", "dev", self.name)
        run("ip", "link", "set", self.name, "up")
        Path("/proc/sys/net/ipv4/ip_forward").write_text("1")
        for table, *rule in self._rules:
            if not succeeds("iptables", "-t", table, "-C", *rule):
                run("iptables", "-t", table, "-I", *rule)

    def remove(self) -> None:
        """Does nothing where there is none."""
        for table, *rule in self._rules:
            succeeds("iptables", "-t", table, "-D", *rule)
        succeeds("ip", "link", "delete", self.name)

    @property
    def _rules(self) -> list[tuple[str, ...]]:
        return [
            ("nat", "POSTROUTING", "-s", f"{self._subnet}.0/24", "!", "-o", self.name, "-j", "MASQUERADE"),
            ("filter", "FORWARD", "-i", self.name, "-j", "ACCEPT"),
            ("filter", "FORWARD", "-o", self.name, "-j", "ACCEPT"),
        ]
