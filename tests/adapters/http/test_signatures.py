"""Signatures: which are good, and what a refusal says."""

import base64

import pytest

from offbook import InvalidOption
from offbook.adapters.http import Incoming, Problem, signed_headers
from offbook.adapters.http.signatures import TOLERANCE, Keys, Secrets
from support.asgi import scope_of

# The example of the specification's own libraries.
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OTHER = "whsec_" + base64.b64encode(b"o" * 32).decode()
BODY = b'{"test": 2432232314}'
NOW = 1_614_265_330.0


def check(headers: dict[str, str], body: bytes = BODY, secrets: Secrets = SECRET) -> None:
    found = Incoming(scope_of("POST", "/x", headers=headers))
    Keys({"name": secrets}).check("name", found, body, NOW)


def test_the_signature_is_that_of_the_standard() -> None:
    headers = signed_headers(SECRET, "msg_p5jXN8AQM9LWM0D4loKWxJek", NOW, BODY)
    assert headers == {
        "webhook-id": "msg_p5jXN8AQM9LWM0D4loKWxJek",
        "webhook-timestamp": "1614265330",
        "webhook-signature": "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=",
    }
    check(headers)


def test_each_of_several_secrets_is_good_and_each_of_several_signatures() -> None:
    old, new = signed_headers(OTHER, "m", NOW, BODY), signed_headers(SECRET, "m", NOW, BODY)
    for headers in (old, new):
        check(headers, secrets=[SECRET, OTHER])
    both = f"v1a,{'x' * 40} {old['webhook-signature']} {new['webhook-signature']}"
    check({**new, "webhook-signature": both})


@pytest.mark.parametrize("beside", [-TOLERANCE, 0.0, TOLERANCE])
def test_a_time_within_the_tolerance_is_good(beside: float) -> None:
    check(signed_headers(SECRET, "m", NOW + beside, BODY))


GOOD = signed_headers(SECRET, "m", NOW, BODY)
BAD: dict[str, tuple[dict[str, str], bytes]] = {
    "missing": ({"webhook-id": "m"}, BODY),
    "other secret": (signed_headers(OTHER, "m", NOW, BODY), BODY),
    "other body": (GOOD, BODY + b" "),
    "other id": ({**GOOD, "webhook-id": "n"}, BODY),
    "other time": ({**GOOD, "webhook-timestamp": str(int(NOW) + 1)}, BODY),
    "too old": (signed_headers(SECRET, "m", NOW - TOLERANCE - 1, BODY), BODY),
    "of the future": (signed_headers(SECRET, "m", NOW + TOLERANCE + 1, BODY), BODY),
    "no number": ({**GOOD, "webhook-timestamp": "²"}, BODY),
    "not a time": ({**GOOD, "webhook-timestamp": "9" * 400}, BODY),
    "other version": ({**GOOD, "webhook-signature": GOOD["webhook-signature"][1:]}, BODY),
    "empty": ({**GOOD, "webhook-signature": "v1,"}, BODY),
    "beyond ASCII": ({**GOOD, "webhook-signature": "v1,é"}, BODY),
}


@pytest.mark.parametrize("why", list(BAD))
def test_anything_else_is_refused(why: str) -> None:
    headers, body = BAD[why]
    with pytest.raises(Problem) as refused:
        check(headers, body)
    assert (refused.value.status, refused.value.code) == (401, "bad-signature")
    assert SECRET[8:] not in str(refused.value)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_short", "whsec_!" + "x" * 40, []])
def test_a_secret_that_is_none_is_refused_and_not_shown(secret: Secrets) -> None:
    with pytest.raises(InvalidOption) as refused:
        Keys({"name": secret})
    assert "short" not in str(refused.value)
    assert "name" in str(refused.value)


def test_keys_do_not_show_themselves() -> None:
    keys = Keys({"name": SECRET})
    assert repr(keys) == "<Keys of ['name']>"
