"""Reads what an OpenID provider says of somebody, and believes nothing that it has not signed for us, now and here.

The rules are those of OpenID Connect Core 1.0, section 3.1.3.7.
"""

from collections.abc import Mapping
from hmac import compare_digest
from typing import Any

import jwt

# Signatures by a key that others know as well are none.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
NEEDED = ("iss", "aud", "sub", "exp", "iat")
# So far may two clocks be apart.
LEEWAY_S = 60
MAX_SUBJECT_CHARS = 255


class TokenRefused(Exception):
    """The token is not what it should be; the message says what is wrong with it."""


def id_token_read(
    text: str, *, keys: Mapping[str, Any], issuer: str, client_id: str, nonce: str
) -> dict[str, Any]:
    """The claims of an ID token.

    Raises:
        TokenRefused: the signature, the issuer, the audience, the time or the nonce is wrong.
    """
    claims = _signed(text, keys, issuer, client_id)
    audience = claims["aud"]
    if isinstance(audience, list) and len(audience) > 1 and claims.get("azp") != client_id:
        raise TokenRefused("it was made for another application")
    if not compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise TokenRefused("it answers another sign-in")
    subject = claims["sub"]
    fits = isinstance(subject, str) and 0 < len(subject) <= MAX_SUBJECT_CHARS
    if not fits or not subject.isascii() or not subject.isprintable():
        raise TokenRefused("it does not say whose it is")
    return claims


def _signed(text: str, keys: Mapping[str, Any], issuer: str, client_id: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(text)
        algorithm, key_id = header.get("alg"), header.get("kid")
        if algorithm not in ALGORITHMS:
            raise TokenRefused("it is signed in a way that is not accepted")
        known = jwt.PyJWKSet.from_dict(dict(keys)).keys
    except (jwt.PyJWTError, AttributeError, TypeError, ValueError) as error:
        raise TokenRefused("it or the keys of its maker cannot be read") from error
    fitting = [key for key in known if key.public_key_use in {None, "sig"} and key_id in {None, key.key_id}]
    for key in fitting:
        try:
            found: dict[str, Any] = jwt.decode(
                text,
                key.key,
                algorithms=[algorithm],
                audience=client_id,
                issuer=issuer,
                leeway=LEEWAY_S,
                options={"require": list(NEEDED)},
            )
        except (jwt.InvalidSignatureError, jwt.InvalidKeyError, TypeError):
            continue  # another key of the set may be meant
        except jwt.ExpiredSignatureError as error:
            raise TokenRefused("it has expired") from error
        except jwt.InvalidAudienceError as error:
            raise TokenRefused("it was made for another application") from error
        except (jwt.PyJWTError, ValueError) as error:
            raise TokenRefused("its issuer, its time or its form is wrong") from error
        return found
    raise TokenRefused("none of its maker's keys has signed it")
