"""Text-to-image: the images, the checks of a request, and the cost."""

from __future__ import annotations

import base64
import struct
import uuid
import zlib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
import requests

from airflow_provider_stability.simulator import Simulator

if TYPE_CHECKING:
    from collections.abc import Iterator

KEY = "sk-canary-5150"
IMAGES = "/v1/generation/stable-diffusion-v1-5/text-to-image"
PROMPT = {"text_prompts": [{"text": "A lighthouse on a cliff"}]}


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    with Simulator(api_key=KEY, organizations={"org-b": 25.0}) as running:
        yield running


def generate(
    simulator: Simulator, path: str = IMAGES, *, headers: dict[str, str] | None = None, **body: Any
) -> requests.Response:
    headers = {"Authorization": f"Bearer {KEY}"} | (headers or {})
    return requests.post(simulator.base_url + path, headers=headers, timeout=30, **({"json": PROMPT} | body))


def assert_error(response: requests.Response, status: int, name: str) -> str:
    body = response.json()
    assert (response.status_code, body["name"]) == (status, name)
    assert uuid.UUID(body["id"]).version == 4
    return str(body["message"])


def read_png(data: bytes) -> tuple[int, int, int]:
    """Return the width, the height and the number of pixel bytes; check the checksum of each chunk."""
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    at, chunks = 8, {}
    while at < len(data):
        (length,) = struct.unpack_from(">I", data, at)
        kind, content = data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        assert struct.unpack_from(">I", data, at + 8 + length) == (zlib.crc32(kind + content),)
        chunks[kind] = content
        at += 12 + length
    assert list(chunks) == [b"IHDR", b"IDAT", b"IEND"]
    return *struct.unpack_from(">II", chunks[b"IHDR"]), len(zlib.decompress(chunks[b"IDAT"]))


def test_images_come_as_artifacts_and_cost_credits(simulator: Simulator) -> None:
    answer = generate(simulator, json={**PROMPT, "samples": 3, "seed": 7}, headers={"Organization": "org-b"})
    artifacts = answer.json()["artifacts"]
    assert [(each["seed"], each["finishReason"]) for each in artifacts] == [
        (7, "SUCCESS"),
        (8, "SUCCESS"),
        (9, "SUCCESS"),
    ]
    images = [base64.b64decode(each["base64"]) for each in artifacts]
    assert [read_png(each) for each in images] == [(64, 64, 64 * (1 + 3 * 64))] * 3
    assert len(set(images)) == 3
    assert (simulator.credits(), simulator.credits("org-b")) == (10.0, 22.0)


def test_image_comes_as_png_with_its_seed_in_a_header(simulator: Simulator) -> None:
    answer = generate(simulator, json={**PROMPT, "seed": 7}, headers={"Accept": "image/png"})
    assert answer.headers["Content-Type"] == "image/png"
    assert (answer.headers["Seed"], answer.headers["Finish-Reason"]) == ("7", "SUCCESS")
    assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert read_png(answer.content)[:2] == (64, 64)


def test_seed_of_zero_is_random(simulator: Simulator) -> None:
    seeds = {generate(simulator, json={**PROMPT, "seed": 0}).json()["artifacts"][0]["seed"] for _ in range(3)}
    assert len(seeds) == 3
    assert all(0 < seed < 2**32 for seed in seeds)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"text_prompts": None}, "bad_request"),
        ({"text_prompts": []}, "bad_request"),
        ({"text_prompts": ["a"]}, "bad_request"),
        ({"text_prompts": [{}]}, "bad_request"),
        ({"text_prompts": [{"text": "x" * 2001}]}, "bad_request"),
        ({"text_prompts": [{"text": "x", "weight": "y"}]}, "bad_request"),
        ({"samples": 0}, "bad_request"),
        ({"samples": 11}, "bad_request"),
        ({"samples": True}, "bad_request"),
        ({"steps": 9}, "bad_request"),
        ({"steps": 151}, "bad_request"),
        ({"seed": 2**32}, "bad_request"),
        ({"cfg_scale": 36}, "bad_request"),
        ({"sampler": "K_NONE"}, "bad_request"),
        ({"clip_guidance_preset": []}, "bad_request"),
        ({"style_preset": "grey"}, "bad_request"),
        ({"width": 64}, "bad_request"),
        ({"height": "512"}, "bad_request"),
        ({"width": 513}, "invalid_height_or_width"),
        ({"width": 128}, "invalid_pixel_count"),
        ({"width": 2048, "height": 1024}, "invalid_pixel_count"),
    ],
)
def test_request_out_of_range_is_refused_and_costs_nothing(
    simulator: Simulator, change: Any, name: str
) -> None:
    assert_error(generate(simulator, json=PROMPT | change), 400, name)
    assert simulator.credits() == 10.0


def test_size_must_suit_the_engine(simulator: Simulator) -> None:
    path = IMAGES.replace("v1-5", "768-v2-1")
    assert_error(generate(simulator, path), 400, "invalid_pixel_count")
    assert generate(simulator, path, json={**PROMPT, "width": 768, "height": 768}).status_code == 200
    path = IMAGES.replace("v1-5", "xl-beta-v2-2-2")
    assert_error(
        generate(simulator, path, json={**PROMPT, "width": 1024}), 400, "invalid_sdxl_v222_dimensions"
    )
    assert generate(simulator, path, json={**PROMPT, "width": 896}).status_code == 200


def test_png_holds_only_one_image(simulator: Simulator) -> None:
    answer = generate(simulator, json={**PROMPT, "samples": 2}, headers={"Accept": "image/png"})
    assert_error(answer, 400, "invalid_samples")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_body_must_be_a_json_object(simulator: Simulator, body: bytes) -> None:
    assert_error(generate(simulator, json=None, data=body), 400, "bad_request")


def test_unknown_engine_gets_the_message_of_the_specification(simulator: Simulator) -> None:
    answer = generate(simulator, IMAGES.replace("v1-5", "fake"))
    message = assert_error(answer, 404, "not_found")
    assert message == "The specified engine (ID stable-diffusion-fake) was not found."


def test_too_few_credits_generate_nothing_and_cost_nothing() -> None:
    with Simulator(api_key=KEY, credits=1.0, cost_per_image=0.75) as simulator:
        message = assert_error(
            generate(simulator, json={**PROMPT, "samples": 2}), 402, "insufficient_balance"
        )
        assert "1.5 credits" in message
        assert simulator.credits() == 1.0
        assert generate(simulator).status_code == 200
        assert simulator.credits() == 0.25


def test_concurrent_requests_never_spend_the_same_credits() -> None:
    with Simulator(api_key=KEY, credits=5.0) as simulator, ThreadPoolExecutor(16) as pool:
        statuses = [answer.status_code for answer in pool.map(lambda _: generate(simulator), range(16))]
        assert (statuses.count(200), statuses.count(402)) == (5, 11)
        assert simulator.credits() == 0.0
