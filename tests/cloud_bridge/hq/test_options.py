"""Where phones reach headquarters: taken as written, or the pages' own address, and anything else is told with the next step."""

import pytest

from cloud_bridge.hq.options import HqOptions
from gateway.errors import ConfigError


@pytest.mark.parametrize(
    ("written", "names", "url", "host"),
    [
        ("", (), "http://127.0.0.1:8080", "127.0.0.1"),
        ("", ("hq.lan",), "http://hq.lan:8080", "hq.lan"),
        ("https://HQ.example/", (), "https://HQ.example", "hq.example"),
        ("https://hq.example:8443", ("hq.lan",), "https://hq.example:8443", "hq.example"),
        ("http://[::1]:9", (), "http://[::1]:9", "[::1]"),
    ],
)
def test_phones_are_sent_to_the_public_address(written: str, names: tuple[str, ...], url: str, host: str) -> None:
    found = HqOptions(data_dir="hq", public_url=written, names=names).public(8080)
    assert (found.public_url, found.public_host) == (url, host)


@pytest.mark.parametrize(
    "written", ["hq.example", "ftp://hq.example", "https://hq.example/page", "https://[::1", "https://a:b@c", "https://h?x"]
)
def test_an_address_no_phone_can_open_is_refused_at_the_start(written: str) -> None:
    with pytest.raises(ConfigError, match="Write public_url"):
        HqOptions(data_dir="hq", public_url=written).public(8080)
