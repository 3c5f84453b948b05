"""URLs and options, without a server."""

from pathlib import Path

import pytest

from offbook.actors.errors import InvalidOption, MissingDependency
from offbook.adapters.nats import ConnectOptions, options


def test_a_url_may_hold_user_and_password() -> None:
    found = options.target("nats://ann:p%40ss%2Fword@localhost:4333", ConnectOptions())
    assert found.servers == ("nats://localhost:4333",)
    assert (found.options.user, found.options.password) == ("ann", "p@ss/word")


def test_a_url_with_a_user_alone_holds_a_token() -> None:
    assert options.target("nats://s3cret@localhost", ConnectOptions()).options.token == "s3cret"


def test_options_win_over_the_url() -> None:
    given = ConnectOptions(user="bob", password="b")
    found = options.target("nats://ann:a@localhost", given).options
    assert (found.user, found.password) == ("bob", "b")


@pytest.mark.parametrize(
    ("url", "address"),
    [
        ("localhost", "nats://localhost:4222"),
        ("localhost:4333", "nats://localhost:4333"),
        ("nats://[::1]:4333", "nats://[::1]:4333"),
        ("tls://nats.example", "tls://nats.example:4222"),
    ],
)
def test_a_url_gets_its_scheme_and_port(url: str, address: str) -> None:
    assert options.target(url, ConnectOptions()).servers == (address,)


def test_several_servers_come_as_a_list_or_with_commas() -> None:
    both = ("nats://a:1", "nats://b:2")
    assert options.target(list(both), ConnectOptions()).servers == both
    assert options.target("nats://a:1, nats://b:2", ConnectOptions()).servers == both


@pytest.mark.parametrize("url", ["http://x", "ws://localhost:80", "nats://", "nats://ann:pw@"])
def test_what_is_no_address_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(InvalidOption) as caught:
        options.target(url, ConnectOptions())
    assert "pw" not in str(caught.value)


def test_no_server_at_all_is_refused() -> None:
    with pytest.raises(InvalidOption):
        options.target([], ConnectOptions())


@pytest.mark.parametrize("port", ["nats://localhost:99999", "nats://localhost:x"])
def test_a_port_that_is_none_is_refused(port: str) -> None:
    with pytest.raises(InvalidOption):
        options.target(port, ConnectOptions())


def test_an_unreadable_tls_file_is_named(tmp_path: Path) -> None:
    missing = str(tmp_path / "ca.pem")
    with pytest.raises(InvalidOption, match="tls_ca"):
        options.target("localhost", ConnectOptions(tls_ca=missing)).arguments()


def test_credentials_without_their_package_say_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def absent(_name: str) -> None:
        return None

    monkeypatch.setattr(options, "find_spec", absent)
    with pytest.raises(MissingDependency, match="pip install nkeys"):
        options.target("localhost", ConnectOptions(creds="user.creds"))


def test_an_options_text_shows_no_secret() -> None:
    secret = ConnectOptions(user="ann", password="hunter2", token="hunter3")
    assert "hunter" not in repr(secret)
