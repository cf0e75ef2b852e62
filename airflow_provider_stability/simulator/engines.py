"""The engines of the simulated service, and the image sizes that each accepts."""

from __future__ import annotations

# The examples of engines/list in the specification, after the engine that has replaced v1.5.
ENGINES = [
    {
        "description": "Stability-AI Stable Diffusion v1.6",
        "id": "stable-diffusion-v1-6",
        "name": "Stable Diffusion v1.6",
        "type": "PICTURE",
    },
    {
        "description": "Stability-AI Stable Diffusion XL Beta v2.2.2",
        "id": "stable-diffusion-xl-beta-v2-2-2",
        "name": "Stable Diffusion v2.2.2-XL Beta",
        "type": "PICTURE",
    },
    {
        "description": "Stability-AI Stable Diffusion v1.5",
        "id": "stable-diffusion-v1-5",
        "name": "Stable Diffusion v1.5",
        "type": "PICTURE",
    },
    {
        "description": "Stability-AI Stable Diffusion v2.1",
        "id": "stable-diffusion-512-v2-1",
        "name": "Stable Diffusion v2.1",
        "type": "PICTURE",
    },
    {
        "description": "Stability-AI Stable Diffusion 768 v2.1",
        "id": "stable-diffusion-768-v2-1",
        "name": "Stable Diffusion v2.1-768",
        "type": "PICTURE",
    },
]

_MAX_PIXELS = 1_048_576
_SHORT_SIDE, _LONG_SIDE = 512, 896


def is_engine(engine: str) -> bool:
    """Return whether there is an engine with this id."""
    return any(engine == each["id"] for each in ENGINES)


def size_error(engine: str, height: int, width: int) -> tuple[str, str] | None:
    """Return the name and message of the error for a size that the engine does not accept, None if it does.

    The limits are those that the specification lists with the 400 answer of the generation endpoints.

    :param height: in pixels; already known to be a multiple of 64 and 128 or more, as ``width`` is.
    """
    if "-xl-" in engine:
        if min(height, width) > _SHORT_SIDE or max(height, width) > _LONG_SIDE:
            return (
                "invalid_sdxl_v222_dimensions",
                f"only one of height and width may be above {_SHORT_SIDE}, up to {_LONG_SIDE}",
            )
        return None
    min_pixels = 589_824 if "-768-" in engine else 262_144
    if not min_pixels <= height * width <= _MAX_PIXELS:
        return "invalid_pixel_count", f"height * width must be between {min_pixels} and {_MAX_PIXELS}"
    return None
