"""Under which key an address stands in the tables. Everything that stores or looks up an address asks here."""

from __future__ import annotations

from bridge.suppression.addresses import normalise


class AddressKeys:
    """Keys in plain text: each address stands under its normalised spelling."""

    def written(self, address: str) -> str:
        """The key under which an address is stored.

        Args:
            address: in any spelling, or a key that this method has returned.

        Raises:
            InvalidAddressError: it is not an address.
        """
        return normalise(address)

    def looked_up(self, address: str) -> tuple[str, ...]:
        """Every key under which an address may stand: at least the one of `written`, which is the first.

        Raises:
            InvalidAddressError: it is not an address.
        """
        return (self.written(address),)


PLAIN = AddressKeys()
