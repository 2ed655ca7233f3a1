"""What deployed versions share is found by digests, run once, and changes no answer."""

import asyncio
from collections.abc import Mapping, Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from registry.digests import Digest
from registry.manifest import FEATURES, LOGITS
from registry.runtime import OnDevice, on_host
from services.deployment.plan import Plan
from services.deployment.sessions import Sessions
from services.engine import Arrays, Engine, QueueLimits, Route
from services.engine.batch import compute
from tests.builders import SIDE, Tiny, chain, tiny
from tests.services.engine.test_engine import Ledger

SESSIONS = Sessions(threads=1, cores=1)
STAYING = Sessions(threads=1, cores=1, stays=True)
"""What a GPU's sessions do, done on the CPU: outputs stay where they are, batches are filled up."""


def reader(versions: Sequence[Tiny]) -> Mapping[Digest, bytes]:
    return {Digest.of(data): data for version in versions for _, data in version.blobs}


def planned(*versions: Tiny) -> Plan:
    return Plan.of({version.manifest.digest: version.manifest for version in versions})


def routes(versions: Sequence[Tiny], sessions: Sessions = SESSIONS) -> list[Route]:
    plan, blobs = planned(*versions), reader(versions)
    return [
        sessions.route(
            plan.paths[version.manifest.digest], version.manifest.signature.inputs, blobs.__getitem__
        )
        for version in versions
    ]


def pixels(seed: int, rows: int = 1) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (rows, SIDE, SIDE, 3), dtype=np.uint8)


def test_a_version_alone_is_one_session_and_its_head() -> None:
    (route,) = routes([chain("letters/digits", [1, 2, 3])])
    assert (len(route.steps), len(route.heads)) == (1, 1)


def test_heads_on_one_trunk_share_its_session_and_are_one_product() -> None:
    one, two = routes([chain("letters/one", [1, 2], seed=1), chain("letters/two", [1, 2], seed=2)])
    assert one.steps == two.steps
    both = Route.together({"one": one, "two": two})
    assert (len(both.steps), len(both.stacks)) == (1, 1)


def test_a_run_ends_where_somebody_branches_off() -> None:
    versions = [chain("letters/one", [1, 2, 3, 4]), chain("letters/two", [1, 2, 5])]
    plan = planned(*versions)
    names = [[place.segment.name for place in run.places] for run in plan.runs]
    assert sorted(names) == sorted(
        [["colours", "layer 0", "layer 1"], ["layer 2", "layer 3"], ["layer 2"], ["head"], ["head"]]
    )


def test_an_extractor_that_ends_inside_another_versions_trunk_is_a_branch_of_it() -> None:
    inner = chain("letters/inner", [1], labels=None)
    versions = [chain("letters/outer", [1, 2]), inner]
    plan = planned(*versions)
    # Its last segment leaves `features` where the other's leaves `h_out`: other bytes, so only the first is shared.
    assert [len(run.places) for run in plan.runs if run.from_recipe] == [1]


def test_the_same_version_twice_changes_nothing() -> None:
    version = chain("letters/one", [1, 2])
    assert planned(version, version) == planned(version)


def test_versions_that_share_nothing_stay_apart() -> None:
    one, two = routes([tiny("letters/one", trunk_seed=1), tiny("letters/two", trunk_seed=2)])
    assert set(one.steps).isdisjoint(two.steps)


def test_whoever_knows_the_features_knows_the_answer() -> None:
    (route,) = routes([chain("letters/one", [1, 2])])
    outputs = compute(route, {"pixels": pixels(0, 3)})
    assert route.pivot == FEATURES
    np.testing.assert_array_equal(route.after(outputs[FEATURES])[LOGITS], outputs[LOGITS])


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_only_what_another_run_takes_on_stays_on_the_device(rows: int) -> None:
    versions = [chain("letters/one", [1, 2, 3]), chain("letters/two", [1, 4])]
    (longer, _), (alone,) = routes(versions, STAYING), routes(versions[:1], STAYING)
    assert longer.onward == (True, False) and alone.onward == (False,)
    first, last = longer.steps
    between = first.run({"recipe:pixels": pixels(0, rows)}, onward=True)
    assert all(isinstance(value, OnDevice) and len(value) == rows for value in between.values())
    plain = first.run({"recipe:pixels": pixels(0, rows)})
    assert all(isinstance(value, np.ndarray) for value in plain.values())
    for tensors in (between, plain):
        expected = compute(longer, {"pixels": pixels(0, rows)})[FEATURES]
        (features,) = last.run(tensors).values()
        np.testing.assert_allclose(on_host(features), expected, rtol=0, atol=1e-5)


prefixes = st.lists(st.integers(0, 2), min_size=1, max_size=4).map(tuple)
forests = st.lists(prefixes, min_size=1, max_size=6, unique=True)
requests = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 5), st.booleans()), min_size=1, max_size=12)


@pytest.mark.parametrize("sessions", [SESSIONS, STAYING], ids=["host", "device"])
@given(forest=forests, asked=requests)
@settings(max_examples=40, deadline=None, derandomize=True)
def test_shared_execution_answers_as_each_version_alone(
    sessions: Sessions, forest: list[tuple[int, ...]], asked: list[tuple[int, int, bool]]
) -> None:
    versions = [chain(f"letters/task-{number}", seeds, seed=number) for number, seeds in enumerate(forest)]
    alone = [routes([version])[0] for version in versions]
    shared = routes(versions, sessions)
    wanted = [
        (at % len(versions), pixels(seed, rows), embeds) for seed, (at, rows, embeds) in enumerate(asked)
    ]

    async def serve() -> list[Arrays]:
        engine = Engine(QueueLimits(batch_rows=16), workers=1, fill=sessions is STAYING, observer=Ledger())
        try:
            futures = [
                engine.submit(shared[at].towards(FEATURES) if embeds else shared[at], {"pixels": fields})
                for at, fields, embeds in wanted
            ]
            return list(await asyncio.gather(*futures))
        finally:
            engine.close()

    for (at, fields, embeds), answer in zip(wanted, asyncio.run(serve()), strict=True):
        expected = compute(alone[at], {"pixels": fields})
        assert set(answer) == ({FEATURES} if embeds else {FEATURES, LOGITS})
        for name, array in answer.items():
            tolerance = 1e-5 * max(1.0, float(np.abs(expected[name]).max()))
            np.testing.assert_allclose(array, expected[name], rtol=0, atol=tolerance)
        if not embeds:
            ranked = np.sort(expected[LOGITS], axis=1)
            clear = ranked[:, -1] - ranked[:, -2] > 2e-5 * max(1.0, float(np.abs(ranked).max()))
            best = answer[LOGITS].argmax(axis=1), expected[LOGITS].argmax(axis=1)
            assert (best[0] == best[1])[clear].all()
