"""The routes for operators: probes, metrics, description and reload."""

from fastapi import APIRouter, Request, Response

from service.api.openapi import GET_RESPONSES, PROBLEM_RESPONSES
from service.api.response import engine_of, state_of
from service.api.schemas import ReloadResponse
from service.errors import DeviceBrokenError, ForbiddenError, NotReadyError

router = APIRouter()


@router.get(
    "/livez", summary="Check whether the process lives", responses=GET_RESPONSES, tags=["operation"]
)
async def livez(request: Request) -> dict[str, str]:
    """Report that the process responds and its device works. If not, restart the process."""
    if state_of(request).is_stuck:
        raise DeviceBrokenError("the device failed or hangs: restart this instance")
    return {"status": "live"}


@router.get(
    "/readyz",
    summary="Check whether the service is ready",
    responses=GET_RESPONSES,
    tags=["operation"],
)
async def readyz(request: Request) -> dict[str, str]:
    """Report whether this instance should receive requests, judged by its last batch."""
    state = state_of(request)
    if not state.is_ready:
        raise NotReadyError(f"the service is {state.phase}: ask another instance or wait")
    if not await engine_of(request).is_healthy():
        raise NotReadyError("the last batch failed and so did a probe: ask another instance")
    refused = {"refused": state.refusal} if state.refusal else {}
    return {"status": state.phase, **refused}


@router.post(
    "/admin/reload",
    summary="Serve the current generation",
    response_model=ReloadResponse,
    response_model_exclude_unset=True,
    responses={**GET_RESPONSES, 409: PROBLEM_RESPONSES[409], 429: PROBLEM_RESPONSES[429]},
    tags=["operation"],
)
async def reload(request: Request) -> dict[str, object]:
    """Serve the generation that CURRENT names: verify, open, warm up, swap between two batches."""
    state = state_of(request)
    if not state.settings.is_admin_open:
        raise ForbiddenError("the admin routes are closed here: set CLEAR_ADMIN=open to open them")
    assert state.reloader is not None  # the lifespan has loaded it
    return (await state.reloader.reload()).as_dict()


@router.get(
    "/metrics",
    summary="Read the metrics",
    response_class=Response,
    responses=GET_RESPONSES,
    tags=["operation"],
)
async def metrics(request: Request) -> Response:
    """Return all metrics in Prometheus' text format."""
    text, media_type = state_of(request).metrics.expose(request.headers.get("accept", ""))
    return Response(text, headers={"Content-Type": media_type})


@router.get("/info", summary="Describe the service", responses=GET_RESPONSES, tags=["operation"])
async def info(request: Request) -> dict[str, object]:
    """Describe the encoder, the index and the limits of this instance, without secrets."""
    return state_of(request).describe()
