"""Notes on what was measured, beside its numbers: whose output it is."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Marks:
    """Notes by the address of the row of an output or a pre-activation.

    Attributes:
        also: the modules whose output it is too.
        replaced: the modules whose output it was until a hook put another in its place.
        returned: the addresses of what the net returned.
    """

    also: dict[int, list[str]] = field(default_factory=dict)
    replaced: dict[int, list[str]] = field(default_factory=dict)
    returned: set[int] = field(default_factory=set)

    def add(self, address: int, name: str) -> None:
        """The output of this address is that of the module of this name too."""
        self.also.setdefault(address, []).append(name)

    def modules(self, address: int) -> tuple[str, ...]:
        """The further modules whose output this is, each once."""
        gone = self.replaced.get(address, ())
        return tuple(dict.fromkeys(n for n in self.also.get(address, ()) if n not in gone))
