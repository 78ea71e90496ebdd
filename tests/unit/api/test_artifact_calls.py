"""PUT, GET, DELETE /v1/artifacts, and the limits on what is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest
from fastapi.testclient import TestClient

from tests.unit.api.fake_engine import FakeEngine

FILE = b"PK\x03\x04" + bytes(range(256)) * 2000
ID = f"sha256:{hashlib.sha256(FILE).hexdigest()}"
MIB = 1 << 20


@pytest.mark.parametrize(
    "content_type", ["", "application/octet-stream", "application/x-www-form-urlencoded"]
)
def test_a_raw_body_is_stored_as_it_is(client: TestClient, content_type: str) -> None:
    answer = client.put("/v1/artifacts", content=FILE, headers={"content-type": content_type})
    assert answer.status_code == 201
    assert answer.json()["id"] == ID
    assert answer.json()["size"] == len(FILE)
    assert answer.json()["format"] == "torchscript"
    assert client.get(answer.headers["location"]).json() == answer.json()


def test_the_same_content_again_is_200(client: TestClient) -> None:
    assert client.put("/v1/artifacts", content=FILE).status_code == 201
    assert client.put("/v1/artifacts", content=FILE).status_code == 200
    assert client.put("/v1/artifacts", files={"file": FILE}).status_code == 200


def test_a_form_is_stored_by_its_file(client: TestClient) -> None:
    assert client.put("/v1/artifacts", files={"any": ("net.pt", FILE)}).json()["id"] == ID


def test_a_form_with_more_than_a_file_is_422(client: TestClient, engine: FakeEngine) -> None:
    two = client.put("/v1/artifacts", files={"a": FILE, "b": FILE})
    text = client.put("/v1/artifacts", files={"a": (None, "text")})
    assert (two.status_code, text.status_code) == (422, 422)
    assert engine.files == {}


def test_a_stream_passes_in_pieces(client: TestClient, engine: FakeEngine) -> None:
    def pieces() -> Iterator[bytes]:
        for start in range(0, len(FILE), 1000):
            yield FILE[start : start + 1000]

    assert client.put("/v1/artifacts", content=pieces()).json()["id"] == ID


def test_artifacts_are_read_and_deleted(client: TestClient) -> None:
    client.put("/v1/artifacts", content=FILE)
    assert client.get(f"/v1/artifacts/{ID}").json()["size"] == len(FILE)
    assert client.delete(f"/v1/artifacts/{ID}").status_code == 204
    for answer in (client.get(f"/v1/artifacts/{ID}"), client.delete(f"/v1/artifacts/{ID}")):
        assert (answer.status_code, answer.json()["code"]) == (404, "artifact_not_found")


@pytest.mark.parametrize("name", ["..", "x", "sha256:..", "sha256:" + "A" * 64, "%2e%2e"])
def test_a_name_that_is_no_id_is_404(client: TestClient, name: str) -> None:
    assert client.get(f"/v1/artifacts/{name}").status_code == 404


@pytest.mark.parametrize("announced", [True, False])
def test_a_body_over_the_limit_is_413(client: TestClient, announced: bool) -> None:
    big = b"x" * (MIB + 1)
    content = big if announced else iter([big[:MIB], big[MIB:]])
    answer = client.put("/v1/artifacts", content=content)
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert answer.headers["content-type"] == "application/problem+json"
    assert "x-request-id" in answer.headers


def test_a_body_at_the_limit_is_taken(client: TestClient) -> None:
    assert client.put("/v1/artifacts", content=b"x" * MIB).status_code == 201


def test_a_form_over_the_limit_is_413(client: TestClient, engine: FakeEngine) -> None:
    answer = client.post("/v1/analyses", files={"model": ("net.pt", b"x" * (MIB + 1))})
    assert (answer.status_code, answer.json()["code"]) == (413, "payload_too_large")
    assert engine.files == {}
