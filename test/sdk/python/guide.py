"""Stytch's guide to M2M, by its own SDK for Python: only the base URL is another."""

import os
import uuid

import stytch
from stytch.core.response_base import StytchError

client = stytch.Client(
    project_id=os.environ["M2M_PROJECT_ID"],
    secret=os.environ["M2M_PROJECT_SECRET"],
    environment=os.environ["M2M_URL"],
)
m2m = client.m2m
NAME = f"python {uuid.uuid4()}"


def refused(call, status, error_type):
    """Check that a call fails, and with what."""
    try:
        call()
    except StytchError as error:
        details = error.details
        assert details.status_code == status, details
        assert details.error_type == error_type, details
        assert details.error_message and details.request_id, details
        return
    raise AssertionError(f"not refused with {error_type}")


def token(made, secret, scopes=None):
    return m2m.token(made.client_id, secret, scopes).access_token


def tokens(made):
    all_scopes = token(made, made.client_secret)
    claims = m2m.authenticate_token(all_scopes, required_scopes=["read:users", "write:books"])
    assert claims is not None, "the SDK refuses the token"
    assert claims.client_id == made.client_id
    assert sorted(claims.scopes) == ["read:users", "write:*"], claims.scopes
    assert claims.custom_claims == {}, claims.custom_claims
    assert m2m.authenticate_token(all_scopes, required_scopes=["delete:users"]) is None
    assert m2m.authenticate_token(all_scopes, max_token_age=0) is None
    some = m2m.authenticate_token(token(made, made.client_secret, ["read:users"]))
    assert some is not None and some.scopes == ["read:users"], some


def status(made):
    updated = m2m.clients.update(
        made.client_id, status="inactive", trusted_metadata={"goes": None}
    ).m2m_client
    assert updated.status == "inactive"
    assert updated.trusted_metadata == {"tier": "gold"}, updated.trusted_metadata
    refused(lambda: token(made, made.client_secret), 401, "invalid_client")
    assert m2m.clients.update(made.client_id, status="active").m2m_client.status == "active"


def rotation(made):
    secrets = m2m.clients.secrets
    dropped = secrets.rotate_start(made.client_id).m2m_client.next_client_secret
    secrets.rotate_cancel(made.client_id)
    refused(lambda: token(made, dropped), 401, "invalid_client")
    started = secrets.rotate_start(made.client_id).m2m_client
    token(made, made.client_secret)
    token(made, started.next_client_secret)
    rotated = secrets.rotate(made.client_id).m2m_client
    assert rotated.next_client_secret_last_four is None
    token(made, started.next_client_secret)
    refused(lambda: token(made, made.client_secret), 401, "invalid_client")


def search(made):
    query = {
        "operator": "AND",
        "operands": [{"filter_name": "client_name", "filter_value": [NAME]}],
    }
    found = m2m.clients.search(limit=10, query=query)
    assert [c.client_id for c in found.m2m_clients] == [made.client_id], found
    assert found.results_metadata.total == 1
    assert found.results_metadata.next_cursor is None


def guide():
    made = m2m.clients.create(
        scopes=["read:users", "write:*"],
        client_name=NAME,
        client_description="zahlt 12 € 🌙",
        trusted_metadata={"tier": "gold", "goes": True},
    ).m2m_client
    try:
        assert m2m.clients.get(made.client_id).m2m_client.client_name == NAME
        tokens(made)
        status(made)
        rotation(made)
        search(made)
    finally:
        assert m2m.clients.delete(made.client_id).client_id == made.client_id
    refused(lambda: m2m.clients.get(made.client_id), 404, "m2m_client_not_found")


guide()
