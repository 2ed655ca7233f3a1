"""How long runs take, as measured, and what is decided by it."""

from services.engine.latency_model import LatencyModel

TRIAL = 32


def test_every_32nd_choice_tries_the_other_way_and_a_stale_measurement_is_corrected() -> None:
    model = LatencyModel(workers=2)
    model.observe(8, 1.0, alone=True)
    model.observe(4, 0.1, alone=False)
    choices = [model.choose_alone(8) for _ in range(3 * TRIAL)]
    assert [number for number, alone in enumerate(choices, 1) if alone] == [TRIAL, 2 * TRIAL, 3 * TRIAL]
    model.observe(8, 0.01, alone=True)
    choices = [model.choose_alone(8) for _ in range(TRIAL)]
    assert choices == [True] * (TRIAL - 1) + [False]
