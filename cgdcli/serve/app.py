"""The addresses: what can be asked over HTTP.

Pictures of the index are named by row, never by path: what is no row cannot be asked for. Pictures
that are asked with are decoded in memory and stored nowhere; what comes back of them is their
vector, with which one may ask again.
"""

import asyncio
import base64
import binascii
import queue
import re
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from importlib.resources import files
from typing import Annotated, Any

import numpy as np
from fastapi import FastAPI, HTTPException, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel, Field

from cgdcli import __version__
from cgdcli.config import SearchConfig, ServeConfig, branch_weights
from cgdcli.errors import CGDError, ConfigError
from cgdcli.index.where import parse
from cgdcli.launch import cores
from cgdcli.serve import uploads
from cgdcli.serve.limits import RateLimit, is_known_host, known_hosts, listens_everywhere
from cgdcli.serve.pictures import Thumbnails
from cgdcli.serve.searching import Answer, Asked, RenewedError, Searching
from cgdcli.serve.uploads import Room, body_of

POLICY = (
    "default-src 'none'; img-src 'self' data: blob:; style-src 'unsafe-inline'; "
    "script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'"
)
SIZES = (160, 320, 1_024)
PARAMETERS = {"branch": "branches", "top_k": "k"}  # options that are called otherwise here
# A page that is scrolled quickly asks for a thousand in some seconds; those that are kept cost a
# fraction of a millisecond, and others are decoded a few at a time.
PICTURES_A_SECOND = 500.0
# A picture of 100 megapixels takes 1.6 GB while its transparency is laid on white.
DECODED_AT_ONCE = 4
HITS = 30  # where no number is said


class HitBody(BaseModel):
    """One row that looks like the query; `picture` is its address here."""

    rank: int
    row: int
    similarity: float
    label: str | None
    path: str
    picture: str
    branches: dict[str, float] | None = None


class SearchBody(BaseModel):
    """An answer: hits, best first, and the vector to ask again with (float32, base64).

    `generation` is another one once the index was renewed, and rows are other pictures.
    """

    hits: list[HitBody]
    vector: str
    row: int | None = None
    label: str | None = None
    generation: str
    seconds: float


class VectorQuery(BaseModel):
    """A question by vector: what an answer came with."""

    vector: str = Field(description="float32, little-endian, base64")


class IndexBody(BaseModel):
    """What the index is; `most_hits` are the most of one answer."""

    name: str
    rows: int
    dim: int
    model: str
    branches: list[str]
    labels: dict[str, int]
    generation: str
    most_hits: int
    version: str = __version__


K = Annotated[int | None, Query(ge=1, description=f"Hits wanted; {HITS} unless said.")]
Label = Annotated[str | None, Query(description="Only rows with this label.")]
Where = Annotated[
    str | None, Query(description="""Only rows of which this is true: path like "front/%".""")
]
Branches = Annotated[str | None, Query(description="Weights of the branches: S=1,G=2.")]
MinSimilarity = Annotated[float | None, Query(ge=-1, le=1, description="Leave out hits below it.")]
Of = Annotated[
    str | None,
    Query(description="The generation that rows are of: 409 where the index was renewed since."),
]


class Settings:
    """What a question may say besides what it asks with."""

    def __init__(
        self,
        k: K = None,
        label: Label = None,
        where: Where = None,
        branches: Branches = None,
        min_similarity: MinSimilarity = None,
        exclude_self: Annotated[bool, Query(description="Leave out the row asked with.")] = False,
        of: Of = None,
    ) -> None:
        self.k, self.label, self.where = k, label, where
        self.branches, self.min_similarity = branches, min_similarity
        self.exclude_self, self.of = exclude_self, of

    def config(self, searching: Searching) -> SearchConfig:
        """As the job takes it; branches are explained where there are some.

        Raises:
            ConfigError: more hits than one answer has, or no expression, or no weights.
        """
        most = searching.config.most_hits
        if self.k is not None and self.k > most:
            raise ConfigError(
                f"{self.k} hits are wanted; one answer has at most {most}",
                hint=f"k={most}, or fewer",
            )
        return SearchConfig(
            k=min(HITS, most) if self.k is None else self.k,
            exclude_self=self.exclude_self,
            explain=bool(searching.facts.branches),
            where=_both(self.where, None if self.label is None else self._stored(searching)),
            branches=branch_weights(self.branches) if self.branches else (),
            min_similarity=self.min_similarity,
        )

    def _stored(self, searching: Searching) -> str | None:
        """The label as the index has it: one that is no UTF-8 is asked for as it is shown."""
        labels = searching.facts.labels
        if self.label in labels:
            return self.label
        return next((label for label in labels if _shown(label) == self.label), self.label)


def make_app(searching: Searching) -> FastAPI:
    """The application around a thread that searches."""
    app = FastAPI(title="cgd", version=__version__, docs_url=None, redoc_url=None)
    _Guard(app, searching.config)
    _add_pages(app)
    decoding = ThreadPoolExecutor(min(cores(), DECODED_AT_ONCE), "decoding")
    _add_search(app, searching, decoding)
    _add_index(app, searching, decoding)
    return app


def _add_pages(app: FastAPI) -> None:
    @app.get("/", include_in_schema=False)
    def page() -> HTMLResponse:
        return HTMLResponse(_file("page.html"))

    @app.get("/api", include_in_schema=False)
    def about() -> HTMLResponse:
        return HTMLResponse(_file("api.html"))


def _add_search(app: FastAPI, searching: Searching, decoding: ThreadPoolExecutor) -> None:
    from fastapi import Depends

    room = Room(uploads.LARGEST_AT_ONCE * searching.config.upload)

    Said = Annotated[Settings, Depends()]

    @app.get("/api/search", summary="Ask with a row of the index")
    async def by_row(row: int, said: Said) -> SearchBody:
        return await _answered(
            searching, lambda: Asked(said.config(searching), row=row, of=said.of)
        )

    @app.post(
        "/api/search",
        summary="Ask with a picture (the body, as it is) or a vector (JSON)",
        openapi_extra={
            "requestBody": {
                "content": {
                    "image/*": {"schema": {"type": "string", "format": "binary"}},
                    "application/json": {"schema": VectorQuery.model_json_schema()},
                }
            }
        },
    )
    async def by_body(request: Request, said: Said) -> SearchBody:
        with room.share() as take:
            body = await body_of(request, searching.config.upload, take)
            if request.headers.get("content-type", "").startswith("application/json"):
                vector, pixels = _vector(body), ()
            else:
                loop = asyncio.get_running_loop()
                decode = partial(_worded, lambda: searching.pixels(body))
                vector, pixels = None, await loop.run_in_executor(decoding, decode)
        make = partial(Asked, vector=vector, pixels=pixels, of=said.of)
        return await _answered(searching, lambda: make(said.config(searching)))


def _add_index(app: FastAPI, searching: Searching, decoding: ThreadPoolExecutor) -> None:
    thumbnails, looked = Thumbnails(searching, decoding), _Looked(searching)

    @app.get("/api/index", summary="What the index is")
    async def about_index() -> IndexBody:
        await looked.wait()
        facts = searching.facts
        return IndexBody(
            name=_shown(facts.name),
            rows=facts.rows,
            dim=facts.dim,
            model=_shown(facts.model),
            branches=list(facts.branches),
            labels={_shown(label): count for label, count in facts.labels.items()},
            generation=facts.generation,
            most_hits=searching.config.most_hits,
        )

    @app.get(
        "/api/pictures/{row}",
        summary="A picture of the index, as JPEG",
        response_class=Response,
        responses={200: {"content": {"image/jpeg": {}}}},
    )
    async def picture(
        row: int,
        size: Annotated[int, Query(description="Of its longer side, at most.")] = 320,
        of: Of = None,
    ) -> Response:
        if size not in SIZES:
            raise HTTPException(422, f"sizes are {', '.join(map(str, SIZES))}")
        try:
            data = await thumbnails.jpeg(row, size, of)
        except RenewedError as error:
            raise _refused(error) from error
        if data is None:
            raise HTTPException(404, "no such row, or its picture is gone")
        return Response(data, media_type="image/jpeg", headers={"Cache-Control": "max-age=60"})


class _Looked:
    """Whether the index was renewed: one look for all who wait, which takes one place of many."""

    def __init__(self, searching: Searching) -> None:
        self.searching = searching
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Until it has been looked at; at once where too many wait: it is then as it was last."""
        if self._waiting is None or self._waiting.done():
            try:
                self._waiting = asyncio.wrap_future(self.searching.call(lambda _: None))
            except queue.Full:
                return
        await asyncio.shield(self._waiting)  # who goes does not take it from the others


async def _answered(searching: Searching, make: Callable[[], Asked]) -> SearchBody:
    started = time.monotonic()
    asked = _worded(make)
    try:
        searching.ask(asked)
    except queue.Full:
        raise HTTPException(503, "too many searches wait", {"Retry-After": "1"}) from None
    try:
        answer = await asyncio.wrap_future(asked.answer)
    except CGDError as error:
        raise _refused(error) from error
    return _search_body(answer, time.monotonic() - started)


def _search_body(answer: Answer, seconds: float) -> SearchBody:
    hits = [
        HitBody(
            rank=hit.rank,
            row=hit.row,
            similarity=hit.similarity,
            label=_shown(hit.label),
            path=_shown(hit.path),
            picture=f"/api/pictures/{hit.row}",
            branches=hit.branches,
        )
        for hit in answer.hits
    ]
    vector = base64.b64encode(answer.vector.astype("<f4").tobytes()).decode("ascii")
    return SearchBody(
        hits=hits,
        vector=vector,
        row=answer.row,
        label=_shown(answer.label),
        generation=answer.generation,
        seconds=seconds,
    )


def _shown(text: Any) -> Any:
    """JSON is UTF-8: of a name that is not, the odd bytes are replaced."""
    return text and text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _vector(body: bytes) -> Any:
    try:
        data = base64.b64decode(VectorQuery.model_validate_json(body).vector, validate=True)
        vector = np.frombuffer(data, dtype="<f4").astype(np.float32)
    except (ValueError, binascii.Error) as error:
        raise HTTPException(422, 'a body of {"vector": "base64 of float32"} is wanted') from error
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not 1e-6 < length < 1e6:
        raise HTTPException(422, "the vector is all zero, too long, or not finite")
    return (vector / length).astype(np.float32)  # similarities are cosines


def _worded(work: Callable[[], Any]) -> Any:
    try:
        return work()
    except CGDError as error:
        raise _refused(error) from error


def _refused(error: CGDError) -> HTTPException:
    """In the words of this page: its parameters have other names than the command's options."""
    words = f"{error.what}; {error.hint}" if error.hint else error.what
    words = re.sub(r"--([a-z][a-z-]*)[ =](?=\S+=)", r"--\1=", words)  # --branch S=1
    status = 409 if isinstance(error, RenewedError) else 422
    return HTTPException(status, re.sub(r"--([a-z][a-z-]*)", _parameter, words))


def _parameter(option: "re.Match[str]") -> str:
    name = option[1].replace("-", "_")
    return PARAMETERS.get(name, name)


def _both(where: str | None, label: str | None) -> str | None:
    """What is true of a row if both are.

    Raises:
        ConfigError: `where` is no expression by itself: `row < 3) or (row > 5` within parentheses
            would be one, and of rows without the label.
    """
    if label is None:
        return where
    if where is not None:
        parse(where)
    quoted = label.replace("\\", "\\\\").replace('"', '\\"')
    own = f'label == "{quoted}"'
    return own if where is None else f"({where}) and {own}"


def _file(name: str) -> str:
    return (files("cgdcli.serve") / name).read_text(encoding="utf-8")


class _Guard:
    """Looks at every request before anything else does, and says to browsers what pages may do."""

    def __init__(self, app: FastAPI, config: ServeConfig) -> None:
        self.hosts = known_hosts(config.host, config.names)
        self.numbers = listens_everywhere(config.host)
        self.limits = {
            "/api/search": ("searches", RateLimit(config.rate)),
            "/api/pictures": ("pictures", RateLimit(max(config.rate, PICTURES_A_SECOND))),
        }
        app.middleware("http")(self.guard)

    async def guard(
        self, request: Request, go_on: Callable[[Request], Awaitable[Response]]
    ) -> Response:
        """Refuse strangers and those in haste."""
        response = self._refusal(request) or await go_on(request)
        response.headers["Content-Security-Policy"] = POLICY
        response.headers["X-Content-Type-Options"] = "nosniff"
        response.headers["Referrer-Policy"] = "no-referrer"
        response.headers["Cross-Origin-Resource-Policy"] = "same-origin"
        return response

    def _refusal(self, request: Request) -> Response | None:
        host = request.headers.get("host", "")
        if not is_known_host(host, self.hosts, numbers=self.numbers):
            words = "this server does not go by that name; --allow-name gives it one"
            return JSONResponse({"detail": words}, 421)
        for path, (what, limit) in self.limits.items():
            if request.url.path == path or request.url.path.startswith(f"{path}/"):
                wait = limit.seconds_to_wait(request.client.host if request.client else "")
                if wait:
                    after = {"Retry-After": str(max(1, round(wait)))}
                    words = f"more than {limit.rate:g} {what} a second"
                    return JSONResponse({"detail": words}, 429, after)
        return None
