"""Cultivar's own operations: ``/v1/classify`` and ``/v1/embed``."""

from collections.abc import Callable, Mapping, Sequence
from time import perf_counter

from registry.tokens import Grant
from services import metrics
from services.api import codec, npy, request
from services.api.admission import Admission, AdmittedRequest
from services.api.auth import Authenticator, pick
from services.api.context import RequestContext
from services.api.parsing import parse_inputs
from services.api.reply import Reply, other_method, problem, send_reply
from services.api.request import RequestHead
from services.deployment.identity import AnswerIdentity
from services.deployment.loading import LoadedVersion
from services.deployment.snapshot import Snapshot
from services.errors import SpaceDiffers, TargetUnavailable
from services.httpd.asgi import Receive, Scope, Send
from services.inference.pipeline import InferencePipeline
from services.inference.request import InferenceRequest


class Operations:
    """Answers the operations.

    Args:
        inference: returns the pipeline, or None while the process is still starting.
        admission: the limits on requests and bytes.
        authenticator: checks tokens.
    """

    def __init__(
        self,
        inference: Callable[[], InferencePipeline | None],
        admission: Admission,
        authenticator: Authenticator,
    ) -> None:
        self._inference = inference
        self._admission = admission
        self._authenticator = authenticator

    async def answer(
        self, scope: Scope, receive: Receive, send: Send, operation: str, target: str | None
    ) -> None:
        """Answer an operation on one target; where ``target`` is None, on the targets in the query."""
        if scope["method"] != "POST":
            await send_reply(scope, send, other_method(scope["method"]))
            return
        async with RequestContext(self._admission, scope, receive, send, operation, problem) as context:
            context.targets = (metrics.UNKNOWN,)
            targets = request.targets_of(scope["query_string"]) if target is None else (target,)
            grant = self._authenticator.admit(scope["headers"], operation, targets)
            inference = self._inference()
            if inference is None:
                raise TargetUnavailable("the server is still starting")
            served = inference.snapshot.targets
            context.targets = [name if name in served else metrics.UNKNOWN for name in targets]
            admitted = context.admit()
            head = request.read(scope, operation, several=target is None)
            admitted.deadline = min(admitted.deadline, context.started + head.timeout_s)
            if target is None:
                context.reply = await _classify_all(inference, admitted, head, targets, grant)
            else:
                context.reply = await _answer(inference, admitted, head, operation, target, grant)


async def _answer(
    inference: InferencePipeline,
    admitted: AdmittedRequest,
    head: RequestHead,
    operation: str,
    target: str,
    grant: Grant,
) -> Reply:
    # The version is chosen before the body is read, so that a request without one is refused early. It is chosen
    # again after a change, so that a slow upload is answered by the version that is deployed by then.
    snapshot = inference.snapshot
    loaded = _pick(snapshot, grant, target, head)
    inference.check_time(loaded, admitted.deadline)
    body = await admitted.body(head.length)
    if inference.snapshot is not snapshot:
        loaded = _pick(inference.snapshot, grant, target, head)
    inputs = await parse_inputs(head.content_type, body, inference.settings.max_rows)
    del body
    identity, asked = loaded.identity, InferenceRequest(inputs, admitted.deadline, head.priority)
    if operation == metrics.CLASSIFY:
        rankings = await inference.classify(loaded, asked, head.top_k)
        begun = perf_counter()
        answer, content_type = codec.classification(identity, rankings), codec.JSON
    else:
        features = await inference.embed(loaded, asked)
        begun = perf_counter()
        if head.accepts_npy:
            answer, content_type = npy.write(features), codec.NPY
        else:
            answer, content_type = codec.embedding(identity, features), codec.JSON
    metrics.ENCODE_SECONDS.observe(perf_counter() - begun)
    return Reply(200, content_type, answer, identity.headers)


async def _classify_all(
    inference: InferencePipeline,
    admitted: AdmittedRequest,
    head: RequestHead,
    targets: Sequence[str],
    grant: Grant,
) -> Reply:
    for target in targets:
        inference.check_time(_pick(inference.snapshot, grant, target, head), admitted.deadline)
    body = await admitted.body(head.length)
    snapshot = inference.snapshot
    loaded: Mapping[str, LoadedVersion] = {target: _pick(snapshot, grant, target, head) for target in targets}
    inputs = await parse_inputs(head.content_type, body, inference.settings.max_rows)
    del body
    asked = InferenceRequest(inputs, admitted.deadline, head.priority)
    rankings = await inference.classify_all(loaded, asked, head.top_k)
    begun = perf_counter()
    answer = codec.classifications(
        {target: (loaded[target].identity, rankings[target]) for target in targets}
    )
    metrics.ENCODE_SECONDS.observe(perf_counter() - begun)
    return Reply(200, codec.JSON, answer)


def _pick(snapshot: Snapshot, grant: Grant, target: str, head: RequestHead) -> LoadedVersion:
    loaded = pick(snapshot, grant, target, head.selector)
    if head.expected_space is not None:
        _check_space(loaded.identity, head.expected_space)
    return loaded


def _check_space(identity: AnswerIdentity, expected: str) -> None:
    if identity.space_id != expected:
        raise SpaceDiffers(
            f"{identity.ref} returns vectors of space {identity.space_id}, the request expects {expected[:100]}"
        )
