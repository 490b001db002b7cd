"""Which addresses an outgoing call may reach: the public internet, and what the operator allowed besides."""

from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

# Written out, because what `ipaddress` calls private has changed between releases of Python.
CLOSED_V4 = tuple(
    IPv4Network(text)
    for text in (
        "0.0.0.0/8",  # this host
        "10.0.0.0/8",
        "100.64.0.0/10",  # carrier-grade NAT; one cloud's metadata too
        "127.0.0.0/8",
        "168.63.129.16/32",  # a cloud's host agent behind a public address
        "169.254.0.0/16",  # link-local, and most clouds' metadata
        "172.16.0.0/12",
        "192.0.0.0/24",  # protocol assignments; one cloud's metadata too
        "192.0.2.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/4",
        "240.0.0.0/4",
    )
)
OPEN_V6 = IPv6Network("2000::/3")
"""The only global unicast space there is; everything outside (ULA, link-local, multicast, loopback …) is closed."""
CLOSED_V6 = tuple(
    IPv6Network(text)
    for text in (
        "2001::/23",  # protocol assignments, Teredo with an IPv4 address inside among them
        "2001:db8::/32",
        "2002::/16",  # 6to4: an IPv4 address inside
        "3fff::/20",
    )
)
NAT64 = IPv6Network("64:ff9b::/96")


class AllowList:
    """Hosts (`intranet.example.org`, `*.example.org`), addresses and networks that may be reached although private."""

    def __init__(self, words: Sequence[str]) -> None:
        self._networks: list[Network] = []
        self._names: list[str] = []
        for word in words:
            try:
                self._networks.append(ip_network(word, strict=False))
            except ValueError:
                self._names.append(word.lower().rstrip("."))

    def has_name(self, host: str) -> bool:
        """Whether the host is allowed by its name, wherever it resolves to."""
        return any(fnmatchcase(host.lower().rstrip("."), name) for name in self._names)

    def permits(self, address: Address) -> bool:
        """Whether this very address may be connected to."""
        forms = tuple(_forms(address))
        return any(form in network for form in forms for network in self._networks) or all(map(is_public, forms))


def parse(text: str) -> Address:
    """An address as a resolver gives it, an interface behind a `%` left out. Raises `ValueError` for anything else."""
    return ip_address(text.partition("%")[0])


def is_public(address: Address) -> bool:
    """Whether the address belongs to somebody on the internet, and to no special purpose."""
    if isinstance(address, IPv4Address):
        return not any(address in network for network in CLOSED_V4)
    if address in NAT64:
        return True  # as public as the IPv4 address inside it, which is judged on its own
    return address in OPEN_V6 and not any(address in network for network in CLOSED_V6)


def _forms(address: Address) -> Iterator[Address]:
    """The address, and the IPv4 address that packets to it end up at."""
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        yield address.ipv4_mapped
        return
    yield address
    if isinstance(address, IPv6Address) and address in NAT64:
        yield IPv4Address(int(address) & 0xFFFF_FFFF)
