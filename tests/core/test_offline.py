"""The suite itself cannot reach the network."""

import socket

import pytest


def test_a_connection_to_the_outside_is_refused_before_it_is_made():
    with (
        socket.socket() as outgoing,
        pytest.raises(RuntimeError, match=r"a test tried to connect to 192\.0\.2\.1: the suite needs no"),
    ):
        outgoing.connect(("192.0.2.1", 80))  # an address reserved for documentation


def test_this_machine_can_be_reached():
    with socket.create_server(("127.0.0.1", 0)) as server:
        socket.create_connection(server.getsockname(), timeout=5).close()
