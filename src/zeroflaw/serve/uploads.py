"""Pictures out of the bodies of requests, while these come: bounded in number and bytes."""

from __future__ import annotations

import tempfile
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import BinaryIO, cast

from python_multipart.exceptions import FormParserError
from starlette.datastructures import FormData, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from zeroflaw.serve.batcher import FullError
from zeroflaw.serve.problems import RefusedError

IN_MEMORY = 64 * 2**10  # bytes of a picture that are not put on the disk while the others come
_FIELDS = 16  # of a form that are no files
_FIELD_NAME = "files"


class _Parser(MultiPartParser):
    spool_max_size = IN_MEMORY


@dataclass(frozen=True)
class Upload:
    """A picture that has come.

    Attributes:
        name: as the sender calls it.
        size: in bytes.
        file: its content, from the start.
    """

    name: str
    size: int
    file: BinaryIO

    def read(self) -> bytes:
        """Return the content, and close the file."""
        with self.file:
            return self.file.read()


class Doorway:
    """Where bodies come in: so many at a time, and so many bytes that are on their way.

    Args:
        most: bodies at a time, and pictures in one.
        largest: bytes of all bodies together.
    """

    def __init__(self, most: int, largest: int) -> None:
        self._most, self._largest = most, largest
        self._bodies = self._bytes = 0

    async def receive(self, request: Request) -> list[Upload]:
        """Return the pictures of a request, at least one.

        Raises:
            RefusedError: the body is no picture and no form, or holds too many.
            FullError: too many bodies are coming at the moment.
        """
        if self._bodies >= self._most:
            raise FullError(1)
        kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
        self._bodies += 1
        counted = _Counted(self)
        try:
            if kind == "multipart/form-data":
                return await self._form(request, counted.stream(request))
            if kind.startswith("image/") or kind == "application/octet-stream":
                return [await _single(request, counted.stream(request))]
        finally:
            self._bodies -= 1
            self._bytes -= counted.came
        raise RefusedError(
            415,
            "send pictures as multipart/form-data in fields named 'files', or one picture as the body with "
            "its own type, image/png say",
        )

    async def _form(self, request: Request, stream: AsyncIterator[bytes]) -> list[Upload]:
        parser = _Parser(request.headers, stream, max_files=self._most, max_fields=_FIELDS)  # type: ignore[arg-type]
        try:
            form = await _parsed(parser)
        except MultiPartException as error:
            if error.message.startswith("Too many fields"):
                raise RefusedError(
                    413, f"at most {_FIELDS} fields of a form may be no files; send the pictures alone"
                ) from error
            if error.message.startswith("Too many"):
                raise RefusedError(
                    413, f"at most {self._most} pictures are taken at a time; send fewer"
                ) from error
            raise RefusedError(400, "the body is not the form that it says it is; send it again") from error
        except (FormParserError, KeyError, ValueError, LookupError) as error:
            raise RefusedError(400, "the body is not the form that it says it is; send it again") from error
        why_not = _why_not(form)
        for name, value in form.multi_items():
            if isinstance(value, UploadFile) and (why_not or name != _FIELD_NAME):
                value.file.close()
        if why_not:
            raise RefusedError(422, why_not)
        files = [value for value in form.getlist(_FIELD_NAME) if isinstance(value, UploadFile)]
        return [Upload(file.filename or "picture", file.size or 0, file.file) for file in files]


def _why_not(form: FormData) -> str | None:
    """Say what keeps the pictures of a form from being judged as its sender wants."""
    if "detector" in form:  # it was looked for in the address, before the form came
        return "the detector belongs in the address, as in /v1/detect?detector=NAME, not in the form"
    pictures = form.getlist(_FIELD_NAME)
    if not all(isinstance(one, UploadFile) for one in pictures):
        return (
            f"a field '{_FIELD_NAME}' of the form is text without a file name; send a file, with curl as "
            f"-F {_FIELD_NAME}=@FILE"
        )
    return None if pictures else f"there is no picture in the form; send them in fields named '{_FIELD_NAME}'"


async def _parsed(parser: _Parser) -> FormData:
    try:
        return await parser.parse()
    except BaseException:  # the sender has gone, was too slow or sent too much
        for file in parser._files_to_close_on_error:
            file.close()
        raise


class _Counted:
    def __init__(self, doorway: Doorway) -> None:
        self._doorway, self.came = doorway, 0

    async def stream(self, request: Request) -> AsyncIterator[bytes]:
        """Yield what comes, as long as there is room for it."""
        door = self._doorway
        async for chunk in request.stream():
            self.came += len(chunk)
            door._bytes += len(chunk)
            if door._bytes > door._largest:
                raise FullError(5)
            yield chunk


async def _single(request: Request, stream: AsyncIterator[bytes]) -> Upload:
    file = cast(BinaryIO, tempfile.SpooledTemporaryFile(IN_MEMORY))  # noqa: SIM115
    size = 0
    try:
        async for chunk in stream:
            size += len(chunk)
            file.write(chunk)
    except BaseException:
        file.close()
        raise
    file.seek(0)
    return Upload(request.query_params.get("name") or "picture", size, file)
