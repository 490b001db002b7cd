"""Which addresses may be called."""

import pytest

from pipelit.integrations.addresses import AllowList, parse


@pytest.mark.parametrize(
    "address",
    [
        "0.0.0.0", "0.1.2.3", "10.0.0.1", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254",
        "168.63.129.16", "169.254.169.254", "169.254.170.2", "172.16.0.1", "172.31.255.255", "192.0.0.192",
        "192.0.2.1", "192.88.99.1", "192.168.1.1", "198.18.0.1", "198.51.100.1", "203.0.113.1", "224.0.0.1",
        "240.0.0.1", "255.255.255.255",
        "::", "::1", "::127.0.0.1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::808:808", "100::1", "2001::1", "2001:db8::1",
        "2002:7f00:1::", "2002:808:808::", "3fff::1", "fc00::1", "fd00:ec2::254", "fe80::1", "fe80::1%eth0",
        "fec0::1", "ff02::1",
    ],
)  # fmt: skip
def test_private_reserved_and_metadata_addresses_are_closed_in_every_disguise(address):
    assert not AllowList(()).permits(parse(address))


@pytest.mark.parametrize(
    "address",
    ["8.8.8.8", "1.1.1.1", "172.32.0.1", "100.128.0.1", "2606:4700::1111", "::ffff:8.8.8.8", "64:ff9b::808:808"],
)
def test_public_addresses_are_open(address):
    assert AllowList(()).permits(parse(address))


def test_an_operator_opens_addresses_networks_and_names_and_nothing_else():
    allowed = AllowList(("127.0.0.0/8", "10.1.2.3", "fd00::/8", "intranet.example.org", "*.svc.local."))

    assert all(allowed.permits(parse(a)) for a in ("127.0.0.1", "::ffff:127.0.0.1", "10.1.2.3", "fd00:ec2::254"))
    assert not any(allowed.permits(parse(a)) for a in ("10.1.2.4", "169.254.169.254", "::1", "fe80::1"))
    assert all(map(allowed.has_name, ("intranet.example.org", "INTRANET.example.org.", "a.svc.local")))
    assert not any(map(allowed.has_name, ("example.org", "intranet.example.org.evil.com", "svc.local", "127.0.0.1")))
