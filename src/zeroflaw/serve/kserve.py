"""The Open Inference Protocol (KServe v2) over the same line: a thin adapter.

A model takes one tensor of encoded pictures, ``BYTES`` in base64, and gives log-odds, scores, verdicts (1, 0,
or -1 where there is no threshold) and the numbers of the rows in the history.
"""

from __future__ import annotations

import base64
import binascii
import io
from typing import Annotated, Any, Literal

from fastapi import Body as JsonBody
from fastapi import FastAPI, Response
from pydantic import BaseModel, ConfigDict, Field

from zeroflaw._version import __version__
from zeroflaw.serve.problems import RefusedError
from zeroflaw.serve.records import Row
from zeroflaw.serve.service import Service
from zeroflaw.serve.uploads import Upload
from zeroflaw.serve.views import refusals

_OUTPUTS: tuple[tuple[str, str], ...] = (
    ("logit", "FP64"),
    ("score", "FP64"),
    ("anomalous", "INT8"),
    ("id", "INT64"),
)

_READY: dict[int | str, dict[str, Any]] = {503: {"description": "Pictures would not be judged or kept."}}


class Tensor(BaseModel):
    """Pictures, each in base64."""

    model_config = ConfigDict(extra="ignore")

    name: Annotated[str, Field(max_length=200)] = "images"
    shape: Annotated[list[Annotated[int, Field(ge=0)]], Field(max_length=8)]
    datatype: Literal["BYTES"]
    data: Annotated[list[str], Field(min_length=1)]


class Inference(BaseModel):
    """A request to judge."""

    model_config = ConfigDict(extra="ignore")

    id: Annotated[str, Field(max_length=200)] | None = None
    inputs: Annotated[list[Tensor], Field(min_length=1, max_length=1)]


def add_routes(app: FastAPI, service: Service) -> None:
    """Add the protocol's routes."""

    @app.get("/v2", tags=["kserve"], responses=refusals())
    def server() -> Any:
        """Say what this is."""
        return {"name": "zeroflaw", "version": __version__, "extensions": []}

    @app.get("/v2/health/live", tags=["kserve"])
    def live() -> Any:
        """Answer, which shows that the service lives."""
        return {"live": True}

    @app.get("/v2/health/ready", tags=["kserve"], responses=_READY)
    def ready(response: Response) -> Any:
        """Say whether pictures would be judged and kept."""
        return _readiness(service, response)

    @app.get("/v2/models/{name}", tags=["kserve"], responses=refusals(404))
    def model(name: str) -> Any:
        """Say what a model takes and gives."""
        entry = service.detectors.get(name)
        return {
            "name": entry.name,
            "versions": [entry.fingerprint[:12]],
            "platform": "zeroflaw",
            "inputs": [{"name": "images", "datatype": "BYTES", "shape": [-1]}],
            "outputs": [{"name": out, "datatype": kind, "shape": [-1]} for out, kind in _OUTPUTS],
        }

    @app.get("/v2/models/{name}/ready", tags=["kserve"], responses=_READY | refusals(404))
    def model_ready(name: str, response: Response) -> Any:
        """Say whether a model would judge pictures."""
        found = _readiness(service, response)
        return {"name": service.detectors.get(name).name, **found}

    @app.post("/v2/models/{name}/infer", tags=["kserve"], responses=refusals(404, 409, 415, 429, 503, 504))
    async def infer(name: str, said: Annotated[Inference, JsonBody()]) -> Any:
        """Judge pictures; all must be ones."""
        service.detectors.get(name)
        uploads = _uploads(said)
        _, found = await service.judge(uploads, name, "http")
        rows: list[Row] = []
        for one in found:
            if isinstance(one, Exception):
                raise one
            rows.append(one)
        return {
            "model_name": name,
            "model_version": rows[0].fingerprint[:12],
            "id": said.id,
            "outputs": [
                {
                    "name": out,
                    "datatype": kind,
                    "shape": [len(rows)],
                    "data": [_value(row, out) for row in rows],
                }
                for out, kind in _OUTPUTS
            ],
        }


def _readiness(service: Service, response: Response) -> dict[str, bool]:
    ready = service.ready
    if not ready:
        response.status_code = 503
    return {"ready": ready}


def _uploads(said: Inference) -> list[Upload]:
    tensor = said.inputs[0]
    size = 1
    for side in tensor.shape:
        size *= side
    if size != len(tensor.data):
        raise RefusedError(
            422, f"the tensor's shape {tensor.shape[:8]} is not that of {len(tensor.data)} pictures"
        )
    found = []
    for number, text in enumerate(tensor.data):
        try:
            data = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError) as error:
            raise RefusedError(422, f"picture {number} is not in base64") from error
        found.append(Upload(f"{tensor.name} {number}", len(data), io.BytesIO(data)))
    return found


def _value(row: Row, name: str) -> float | int | None:
    if name == "anomalous":
        return -1 if row.anomalous is None else int(row.anomalous)
    value: float | int | None = getattr(row, name)
    return value
