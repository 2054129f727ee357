"""Two threads use one inspector, as JupyterLab does: a cell in one, the messages of widgets in another."""

import pytest
import random
import torch
from concurrent.futures import ThreadPoolExecutor
from vidprism import ClipInspector, sample_clips, sample_model

ACTIONS = 40


def choices(inspector) -> list:
    "Controls that are moved, with the values that they may take."
    menus = [inspector.count, inspector.order, inspector.tabs]
    found = [(menu, [option[-1] if isinstance(option, tuple) else option for option in menu.options]) for menu in menus]
    found += [(button, [True, False]) for button in inspector.on.values()]
    found += [(slider, [slider.min, slider.max]) for slider in inspector.numbers.values()]
    return [*found, (inspector.dropped, ["", "0-9", "3, 5-7"])]


def act(inspector, seed: int) -> list:
    "Move controls at random, and compute saliency in between; the errors."
    dice, errors = random.Random(seed), []
    for _ in range(ACTIONS):
        control, values = dice.choice(choices(inspector))
        try:
            control.value = dice.choice(values)
            if dice.random() < 0.3:
                inspector.look_again()
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
    return errors


@pytest.mark.long
def test_two_threads_share_an_inspector():
    "No action fails, nothing is left on the model, and the answer is that of the settings."
    threads = torch.get_num_threads()
    inspector = ClipInspector(sample_model("vidprism"), sample_clips()[:3])
    inspector.tabs.value = "Saliency maps"
    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(act, [inspector] * 2, (1, 2))
    assert [*first, *second] == []
    assert torch.get_num_threads() == threads
    fresh = inspector.session.read(inspector.session.settings)
    torch.testing.assert_close(inspector._after.logits, fresh.logits, rtol=0, atol=1e-5)
    dropped = inspector.session.settings.dropped
    assert len(inspector._after.clip.frames) == inspector.session.num_frames - len(dropped)
