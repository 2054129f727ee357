"""Public names refuse nonsense: a call with one wrong argument succeeds, or raises the kit's own error.

A call that succeeds with finite arguments returns finite numbers."""

import calls
import inspect
import os
import pytest
import torch
import vidprism
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from vidprism.errors import VidPrismError

LONG = bool(os.environ.get("VIDPRISM_SOAK"))
EXAMPLES = 400 if LONG else 12
# The short run tries the same values each time; the long one draws new ones.
EFFORT = settings(deadline=None, database=None, derandomize=not LONG, suppress_health_check=list(HealthCheck))
# Records that a call returns; a person reads them.
RECORDS = {
    n for n in vidprism.__all__ if isinstance(getattr(vidprism, n), type) and hasattr(getattr(vidprism, n), "_fields")
}
ERRORS = {"VidPrismError", "ClipError", "ConfigError"}
WITHOUT_ARGUMENTS = {"sample_clips", "find_device"}
ABSTRACT = {"Head"}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    "What the calls are made of; the folder of the session is the current one."
    before = os.getcwd()
    os.chdir(tmp_path_factory.mktemp("calls"))
    yield calls.Workshop()
    os.chdir(before)


def outcome(called, workshop, changed):
    "What a call gives, or None where it is refused. Any other error is the test's failure."
    function, arguments = calls.call_of(called, workshop)
    try:
        return function(**{**arguments, **changed})
    except VidPrismError as error:
        text = str(error)
        assert text and "Traceback" not in text and len(text) < 2000
        return None


def test_every_name_has_a_call():
    named = {n for n in vidprism.__all__ if callable(getattr(vidprism, n))}
    assert named - RECORDS - ERRORS - WITHOUT_ARGUMENTS - ABSTRACT == set(calls.CALLS)


# These need a file of weights that is not here: they are called with an empty one, and refuse.
REFUSED = {"load_released_head", "load_released_mote", "import_released"}


@pytest.mark.parametrize("name", sorted({*calls.CALLS, *calls.METHODS}))
def test_valid_call(name, workshop):
    "The call that the others change is a right one."
    function, arguments = calls.call_of(name, workshop)
    if name in REFUSED:
        with pytest.raises(VidPrismError):
            function(**arguments)
    else:
        function(**arguments)


def nonsense():
    "Values that nobody means, and what hypothesis adds to them."
    drawn = st.one_of(
        st.integers(),
        st.floats(),
        st.text(max_size=20),
        st.binary(max_size=8),
        st.booleans(),
        st.none(),
        st.lists(st.one_of(st.integers(), st.floats(), st.text(max_size=5), st.none()), max_size=4),
        st.dictionaries(st.text(max_size=5), st.integers(), max_size=2),
    )
    return st.one_of(st.sampled_from(calls.NONSENSE), drawn)


@pytest.mark.parametrize("name", sorted({*calls.CALLS, *calls.METHODS} - calls.SLOW))
def test_one_wrong_argument(name, workshop):
    "One argument is replaced by something; what comes out is a result or a sentence."
    parameters = sorted(calls.call_of(name, workshop)[1])

    @settings(EFFORT, max_examples=EXAMPLES)
    @given(parameter=st.sampled_from(parameters), value=nonsense())
    def attack(parameter, value):
        outcome(name, workshop, {parameter: value})

    attack()


@pytest.mark.parametrize("name", sorted({*calls.CALLS, *calls.METHODS}))
def test_plain_values(name, workshop):
    "Each argument in turn is each of the plain values that its annotation does not allow."
    function, arguments = calls.call_of(name, workshop)
    signature = inspect.signature(function)
    for parameter in arguments:
        annotation = signature.parameters[parameter].annotation if parameter in signature.parameters else None
        if annotation in (None, inspect.Parameter.empty) or isinstance(annotation, str):
            continue
        for value in calls.refused_by(annotation, signature.parameters[parameter].default):
            with pytest.raises(VidPrismError, match=parameter):
                function(**{**arguments, parameter: value})


def numbers_of(found):
    "The floating-point tensors inside a result."
    if isinstance(found, torch.Tensor):
        return [found] if found.is_floating_point() else []
    if isinstance(found, tuple | list):
        return [t for item in found for t in numbers_of(item)]
    return []


FINITE = (
    "ranking_loss",
    "ranking_target",
    "diversity_loss",
    "gate_balance_loss",
    "motion_features",
    "flow_cells",
    "world_clips",
)


@pytest.mark.parametrize("name", FINITE)
def test_finite(name, workshop):
    "Finite arguments give finite numbers."
    for parameter, good in calls.CALLS[name](workshop).items():
        values = [0, 1, -1, 1e-30, 1e30, 0.5] if isinstance(good, float) else [0, 1, 2, 3]
        for value in values:
            found = outcome(name, workshop, {parameter: value}) if not isinstance(good, torch.Tensor) else None
            for tensor in numbers_of(found):
                assert tensor.isfinite().all(), (name, parameter, value)
