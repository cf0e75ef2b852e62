"""Text-to-image: the checks of a request, its cost, and the answer with the images."""

from __future__ import annotations

import base64
import json
import math
import secrets
from typing import TYPE_CHECKING, Any

from airflow_provider_stability.simulator.answers import Answer, as_json, error
from airflow_provider_stability.simulator.engines import is_engine, size_error
from airflow_provider_stability.simulator.images import png

if TYPE_CHECKING:
    from collections.abc import Callable

    from airflow_provider_stability.simulator.recorded import RecordedRequest
    from airflow_provider_stability.simulator.state import State

PNG = "image/png"
_MAX_PROMPT_LENGTH = 2000
_MAX_SEED = 4_294_967_295
_SIZE_STEP = 64

_SAMPLERS = (
    "DDIM DDPM K_DPMPP_2M K_DPMPP_2S_ANCESTRAL K_DPM_2 K_DPM_2_ANCESTRAL K_EULER K_EULER_ANCESTRAL K_HEUN "
    "K_LMS"
)
_GUIDANCE = "FAST_BLUE FAST_GREEN NONE SIMPLE SLOW SLOWER SLOWEST"
_STYLES = (
    "enhance anime photographic digital-art comic-book fantasy-art line-art analog-film neon-punk isometric "
    "low-poly origami modeling-compound cinematic 3d-model pixel-art tile-texture"
)


class _InvalidRequestError(ValueError):
    """An invalid request, with the message and the short name of the error to answer with."""

    def __init__(self, message: str, name: str = "bad_request") -> None:
        super().__init__(message)
        self.name = name


def text_to_image(state: State, request: RecordedRequest, engine: str) -> Answer:
    """Charge for the requested images and return the answer.

    The specification does not define the order of the checks. The charge comes last, so that a refused
    request costs nothing.
    """
    if not is_engine(engine):
        return error("v1", 404, f"The specified engine (ID {engine}) was not found.")
    as_png = PNG in request.headers.get("Accept", "")
    try:
        samples, seed = _read(request.body, engine, max_samples=1 if as_png else 10)
    except _InvalidRequestError as invalid:
        return error("v1", 400, str(invalid), invalid.name)
    cost = state.cost_per_image * samples
    if not state.charge(cost, request.organization):
        # The specification has no answer for too few credits; 402 and this name are the live service's.
        return error("v1", 402, f"Your organization does not have enough balance (need {cost:g} credits)")
    seeds = [(seed + index) % (_MAX_SEED + 1) for index in range(samples)]
    if as_png:
        headers = {"Finish-Reason": "SUCCESS", "Seed": str(seed)}
        return Answer(body=png(seed), content_type=PNG, headers=headers)
    # The schema of this answer is an array, but the code samples of the same document read "artifacts" from
    # an object, which is what the live service sends.
    return as_json({"artifacts": [_artifact(each) for each in seeds]})


def _artifact(seed: int) -> dict[str, object]:
    return {"base64": base64.b64encode(png(seed)).decode(), "seed": seed, "finishReason": "SUCCESS"}


def _read(body: bytes, engine: str, *, max_samples: int) -> tuple[int, int]:
    """Return the number of images, up to ``max_samples``, and the seed of the first."""
    try:
        fields = json.loads(body)
    except (ValueError, RecursionError):
        raise _InvalidRequestError("the body is not JSON") from None
    if not isinstance(fields, dict):
        raise _InvalidRequestError("the body must be a JSON object")
    _check_prompts(fields.get("text_prompts"))
    for name, check in _OPTIONS.items():
        if name in fields:
            check(name, fields[name])
    _check_size(engine, fields.get("height", 512), fields.get("width", 512))
    samples: int = fields.get("samples", 1)
    if samples > max_samples:
        raise _InvalidRequestError(
            "Sample count may only be greater than 1 when the accept header is set to `application/json`",
            "invalid_samples",
        )
    return samples, fields.get("seed", 0) or 1 + secrets.randbelow(_MAX_SEED)


def _check_prompts(prompts: object) -> None:
    if prompts is None:
        raise _InvalidRequestError("text_prompts: is required")
    if not isinstance(prompts, list) or not prompts:
        raise _InvalidRequestError("text_prompts: must be a list of at least one prompt")
    for index, prompt in enumerate(prompts):
        name = f"text_prompts[{index}]"
        if not isinstance(prompt, dict):
            raise _InvalidRequestError(f"{name}: must be an object")
        text = prompt.get("text")
        if text is None:
            raise _InvalidRequestError(f"{name}.text: is required")
        if not isinstance(text, str) or len(text) > _MAX_PROMPT_LENGTH:
            raise _InvalidRequestError(
                f"{name}.text: must be text of at most {_MAX_PROMPT_LENGTH} characters"
            )
        if "weight" in prompt:
            _number(-math.inf, math.inf)(f"{name}.weight", prompt["weight"])


def _check_size(engine: str, height: object, width: object) -> None:
    for name, value in (("height", height), ("width", width)):
        _whole(128, 1 << 64)(name, value)
    # Both are whole numbers now, which mypy cannot infer from the check.
    assert isinstance(height, int)
    assert isinstance(width, int)
    if height % _SIZE_STEP or width % _SIZE_STEP:
        raise _InvalidRequestError(
            "Height and width must be specified in increments of 64", "invalid_height_or_width"
        )
    if invalid := size_error(engine, height, width):
        name, message = invalid
        raise _InvalidRequestError(message, name)


def _whole(low: int, high: int) -> Callable[[str, Any], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            raise _InvalidRequestError(f"{name}: must be a whole number between {low} and {high}")

    return check


def _number(low: float, high: float) -> Callable[[str, Any], None]:
    def check(name: str, value: object) -> None:
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not low <= value <= high:
            raise _InvalidRequestError(f"{name}: must be a number between {low:g} and {high:g}")

    return check


def _one_of(allowed: str) -> Callable[[str, Any], None]:
    def check(name: str, value: object) -> None:
        if value not in allowed.split():
            raise _InvalidRequestError(f"{name}: must be one of {', '.join(allowed.split())}")

    return check


_OPTIONS = {
    "samples": _whole(1, 10),
    "steps": _whole(10, 150),
    "seed": _whole(0, _MAX_SEED),
    "cfg_scale": _number(0, 35),
    "sampler": _one_of(_SAMPLERS),
    "clip_guidance_preset": _one_of(_GUIDANCE),
    "style_preset": _one_of(_STYLES),
}
