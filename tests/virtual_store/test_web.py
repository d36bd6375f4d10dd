"""The starter's own HTTP client against a server that dies in its answer."""

import socket
import threading

import pytest

from virtual_store.web import Refused, Web

HALVES = [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 662\r\n\r\n", b"HTTP/1.1 503 Busy\r\nContent-Length: 662\r\n\r\n{", b"rubbish\r\n\r\n"]


@pytest.mark.parametrize("half", HALVES)
def test_an_answer_that_breaks_off_is_no_answer(half: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def dies_half_way() -> None:
            line, _ = server.accept()
            line.recv(65536)
            line.sendall(half)
            line.close()

        answering = threading.Thread(target=dies_half_way)
        answering.start()
        with pytest.raises(Refused) as refused:
            Web(f"http://127.0.0.1:{server.getsockname()[1]}").call("/v1/store", None)
        answering.join()
    assert refused.value.status in (0, 503)
