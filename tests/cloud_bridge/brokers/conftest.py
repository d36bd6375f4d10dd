"""Each broker the road must work on, with headquarters beside it; one for all tests of a file."""

from collections.abc import Iterator

import pytest

from gateway.errors import ConfigError
from virtual_store.brokers import installed

from .site import Site, site_on


@pytest.fixture(scope="module", params=["amqtt", "mosquitto", "nats"])
def site(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    kind = str(request.param)
    if kind != "amqtt":
        try:
            installed(kind)
        except ConfigError as error:
            pytest.skip(str(error))
    with site_on(kind, tmp_path_factory.mktemp(kind)) as running:
        yield running
