"""Text-to-image: what a request for a picture may say, what it costs, and the answer with the pictures."""

from __future__ import annotations

import base64
import json
import math
import secrets
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.simulator.answers import Answer, as_json, error
from airflow_provider_stability.simulator.images import png
from airflow_provider_stability.simulator.models import is_engine, size_problem

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.simulator.recorded import RecordedRequest
    from airflow_provider_stability.simulator.state import State

PNG = "image/png"
_LONGEST_PROMPT = 2000
_LARGEST_SEED = 4_294_967_295
_STEP_OF_SIZE = 64

_SAMPLERS = (
    "DDIM DDPM K_DPMPP_2M K_DPMPP_2S_ANCESTRAL K_DPM_2 K_DPM_2_ANCESTRAL K_EULER K_EULER_ANCESTRAL K_HEUN "
    "K_LMS"
)
_GUIDANCE = "FAST_BLUE FAST_GREEN NONE SIMPLE SLOW SLOWER SLOWEST"
_STYLES = (
    "enhance anime photographic digital-art comic-book fantasy-art line-art analog-film neon-punk isometric "
    "low-poly origami modeling-compound cinematic 3d-model pixel-art tile-texture"
)


class _RefusedError(ValueError):
    """What is wrong with a request: the short name of the error, and a message for a person."""

    def __init__(self, message: str, name: str = "bad_request") -> None:
        super().__init__(message)
        self.name = name


def text_to_image(state: State, request: RecordedRequest, engine: str) -> Answer:
    """Return the answer to a request for pictures, having taken what they cost.

    The order of the checks is ours, the specification has none; credits go last, so that a request which is
    refused costs nothing.
    """
    if not is_engine(engine):
        return error("v1", 404, f"The specified engine (ID {engine}) was not found.")
    as_png = PNG in request.headers.get("Accept", "")
    try:
        samples, seed = _read(request.body, engine, most=1 if as_png else 10)
    except _RefusedError as problem:
        return error("v1", 400, str(problem), problem.name)
    cost = state.cost_per_image * samples
    if not state.take(cost, request.organization):
        # The specification has no answer for a lack of credits; 402 and this name are the live service's.
        return error("v1", 402, f"Your organization does not have enough balance (need {cost:g} credits)")
    seeds = [(seed + index) % (_LARGEST_SEED + 1) for index in range(samples)]
    if as_png:
        headers = {"Finish-Reason": "SUCCESS", "Seed": str(seed)}
        return Answer(body=png(seed), content_type=PNG, headers=headers)
    # The schema of this answer is a bare array, but each code sample of the same document reads "artifacts"
    # out of an object, which is what the live service sends.
    return as_json({"artifacts": [_artifact(each) for each in seeds]})


def _artifact(seed: int) -> dict[str, object]:
    return {"base64": base64.b64encode(png(seed)).decode(), "seed": seed, "finishReason": "SUCCESS"}


def _read(body: bytes, engine: str, *, most: int) -> tuple[int, int]:
    """Return how many pictures are wanted, ``most`` of them, and the seed of the first."""
    try:
        wish = json.loads(body)
    except (ValueError, RecursionError):
        raise _RefusedError("the body is not JSON") from None
    if not isinstance(wish, dict):
        raise _RefusedError("the body must be a JSON object")
    _check_prompts(wish.get("text_prompts"))
    for name, check in _OPTIONS.items():
        if name in wish:
            check(name, wish[name])
    _check_size(engine, wish.get("height", 512), wish.get("width", 512))
    samples: int = wish.get("samples", 1)
    if samples > most:
        raise _RefusedError(
            "Sample count may only be greater than 1 when the accept header is set to `application/json`",
            "invalid_samples",
        )
    return samples, wish.get("seed", 0) or 1 + secrets.randbelow(_LARGEST_SEED)


def _check_prompts(prompts: object) -> None:
    if prompts is None:
        raise _RefusedError("text_prompts: is required")
    if not isinstance(prompts, list) or not prompts:
        raise _RefusedError("text_prompts: must be a list of at least one prompt")
    for index, prompt in enumerate(prompts):
        name = f"text_prompts[{index}]"
        if not isinstance(prompt, dict):
            raise _RefusedError(f"{name}: must be an object")
        text = prompt.get("text")
        if text is None:
            raise _RefusedError(f"{name}.text: is required")
        if not isinstance(text, str) or len(text) > _LONGEST_PROMPT:
            raise _RefusedError(f"{name}.text: must be text of at most {_LONGEST_PROMPT} characters")
        if "weight" in prompt:
            _number(-math.inf, math.inf)(f"{name}.weight", prompt["weight"])


def _check_size(engine: str, height: object, width: object) -> None:
    for name, value in (("height", height), ("width", width)):
        _whole(128, 1 << 64)(name, value)
    # Both are whole numbers by now; mypy cannot see that through a check kept in a table.
    assert isinstance(height, int)
    assert isinstance(width, int)
    if height % _STEP_OF_SIZE or width % _STEP_OF_SIZE:
        raise _RefusedError(
            "Height and width must be specified in increments of 64", "invalid_height_or_width"
        )
    if problem := size_problem(engine, height, width):
        name, message = problem
        raise _RefusedError(message, name)


def _whole(low: int, high: int) -> Callable[[str, Any], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _RefusedError(f"{name}: must be a whole number between {low} and {high}")

    return check


def _number(low: float, high: float) -> Callable[[str, Any], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise _RefusedError(f"{name}: must be a number between {low:g} and {high:g}")

    return check


def _one_of(allowed: str) -> Callable[[str, Any], None]:
    def check(name: str, value: object) -> None:
        if value not in allowed.split():
            raise _RefusedError(f"{name}: must be one of {', '.join(allowed.split())}")

    return check


_OPTIONS = {
    "samples": _whole(1, 10),
    "steps": _whole(10, 150),
    "seed": _whole(0, _LARGEST_SEED),
    "cfg_scale": _number(0, 35),
    "sampler": _one_of(_SAMPLERS),
    "clip_guidance_preset": _one_of(_GUIDANCE),
    "style_preset": _one_of(_STYLES),
}
