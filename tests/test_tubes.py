"The head `vidprism_tubes` and its encoder as users have them: made by name, trained, saved, explained."

import pytest
import random
import torch
import vidprism as vp
from vidprism.cli import build_bare
from vidprism.data.cliplist import ClipList
from vidprism.encoders.export import export_features
from vidprism.encoders.feature_files import feature_list, given_features
from vidprism.encoders.flow import FLOW_WIDTH
from vidprism.errors import ConfigError
from vidprism.evaluation.protocols import build_head
from vidprism.interpret.explanation import describe, explain
from vidprism.interpret.saliency import saliency_maps
from vidprism.training.pipeline import Recipe, fresh_head
from vidprism.training.trainer import TensorClips, TrainConfig, fit

NAME, FRAMES = "flow1:colours0:mini", 8
CLASSES = ["bounce", "drift", "spin"]


@pytest.fixture(scope="module")
def paths():
    "Two clips of each of three classes."
    return vp.sample_clips()[:6]


@pytest.fixture(scope="module")
def model(paths):
    "A model, solved on the features of six clips."
    encoder = vp.create_encoder(NAME)
    frames = torch.stack([vp.read_clip(path, FRAMES).frames for path in paths])
    features = encoder(frames).pooled
    head = vp.create_head("vidprism_tubes", encoder.dim, 3, FRAMES, colours=True, flow=True, axes=16, components=4)
    labels = torch.arange(6) % 3
    fit(head, TensorClips(features, labels, sources=list("abcdef")), config=TrainConfig(batch=4))
    return vp.VideoModel(encoder, head, CLASSES).eval()


def test_it_knows_the_clips_it_was_solved_on(model, paths):
    answers = [model.predict(path)[0][0] for path in paths]
    assert answers == CLASSES * 2


def test_it_comes_back(model, paths, tmp_path):
    "A saved folder has two files, as the encoder's name is enough."
    model.save_pretrained(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["config.json", "head.safetensors"]
    again = vp.VideoModel.from_pretrained(tmp_path)
    path = random.choice(paths)
    assert again.encoder.name == NAME and again.head.config == model.head.config
    assert torch.equal(again.embed(path), model.embed(path))


def test_parts_and_frames_are_exact(model, paths):
    "Contributions sum to the logit, frames to all logits, and the importance to 1."
    found = explain(model, random.choice(paths), method=None)
    assert abs(found.contributions.sum() + found.bias - found.logit) < 1e-4 * max(1, abs(found.logit))
    assert abs(found.importance.sum() - 1) < 1e-5 and found.parts.shape == (4, FRAMES)
    scores = vp.frame_scores(model, random.choice(paths))
    assert (scores.scores.sum(0) + scores.bias - scores.logits).abs().max() < 1e-4


def test_experts_have_places(model, paths):
    "Maps over each picture: of the tower for the grey pictures, of the tubes, by exact parts, for motion."
    path = random.choice(paths)
    found = explain(model, path)
    assert found.saliency.shape[:2] == (4, FRAMES) and found.method == "gradcam"
    assert torch.equal(found.saliency.flatten(1).amax(1) > 0, found.contributions.abs() > 1e-9)  # a weight can be 0
    clip = model.open_clip(path)
    features = model.encoder(clip.frames[None]).pooled
    out = model.head(features)
    places = model.head.place_scores(features, out, found.target)[0]
    assert torch.allclose(places[1:].sum((1, 2, 3)), found.contributions[1:], atol=1e-4)
    best = int(found.contributions.abs().argmax())
    alone = saliency_maps(model, clip, signed=True, active_experts=[best]).flatten(1).abs().amax(1)
    assert alone[best] > 0 and (alone > 0).sum() == 1


def test_experts_can_be_switched_off(model, paths):
    "The statistics stay: what is left is the contribution of one expert, and they."
    clip = vp.read_clip(paths[0], FRAMES)
    features = model.encoder(clip.frames[None]).pooled
    whole = describe(model.head, features, clip, CLASSES, target=0)
    one = describe(model.head, features, clip, CLASSES, active_experts=[2], target=0)
    left = whole.contributions.clone()
    left[[0, 1, 3]] = 0
    assert torch.allclose(one.contributions, left, atol=1e-5)
    assert one.rates == ("colours", 1, 2, 4)


def test_the_seed_changes_nothing(model, paths):
    "No global generator is read in solving."
    encoder = model.encoder
    features = encoder(torch.stack([vp.read_clip(path, FRAMES).frames for path in paths])).pooled
    rows = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        head = vp.create_head("vidprism_tubes", encoder.dim, 3, FRAMES, flow=True, colours=True, axes=16, components=4)
        head.solve(features, torch.arange(6) % 3)
        rows.append(head.eval()(features).logits)
    assert torch.equal(*rows)


NESTED = {
    "mini": {},
    "colours0:mini": dict(colours=True),
    "flow1:mini": dict(flow=True),
    "flow1:colours0:mini": dict(colours=True, flow=True),
    "flow1:motion2:mini": dict(flow=True),
    "colours0:flow1:mini": {},  # a head has no options for these
    "flow1:flow1:mini": {},
}


def test_the_encoder_tells_the_head_its_channels(model):
    "In a recipe, a bench and the command `cost`; options that are given come first, other heads have none."
    for name, channels in NESTED.items():
        assert vp.create_encoder(name, text=False).channels == channels
    encoder, small = model.encoder, dict(axes=16, components=4)
    recipe = Recipe(head="vidprism_tubes", options=small, num_frames=FRAMES)
    bench = vp.world_bench(encoder, 4, 4, num_frames=FRAMES, motions=["grow", "shrink"], templates=None)
    heads = [fresh_head(recipe, encoder, CLASSES), build_head(bench, "vidprism_tubes", small)]
    heads.append(build_bare("flow1:colours0:mini", "vidprism_tubes", ["axes=16"], FRAMES, 3).head)
    for head in heads:
        assert head.config.flow and head.config.colours
    plain = build_head(bench, "vidprism_tubes", dict(flow=False))
    assert plain.config.colours and not plain.config.flow
    assert build_head(bench, "statistics").config.dim == encoder.dim


def test_exported_features_keep_the_channels(model, paths, tmp_path):
    "A head that is trained on the files is as if it had been trained on the clips."
    clips = ClipList([path.name for path in paths], paths, [0, 1, 2] * 2, CLASSES, [""] * 6, root=paths[0].parent)
    export_features(clips, model.encoder, tmp_path / "out", num_frames=FRAMES, progress=False, cache=tmp_path / "cache")
    given = given_features(feature_list(tmp_path / "out"))
    assert given.channels == model.encoder.channels and given.dim == model.encoder.dim
    recipe = Recipe(head="vidprism_tubes", options=dict(axes=16, components=4), num_frames=FRAMES)
    assert fresh_head(recipe, given, CLASSES).config == model.head.config


def test_bad_input_gets_one_sentence(model, paths):
    dim = model.encoder.dim
    for bad in (dict(dim=FLOW_WIDTH, flow=True), dict(dim=7, colours=True), dict(dim=dim, rates=[0])):
        with pytest.raises(ConfigError) as error:
            vp.create_head("vidprism_tubes", num_classes=3, num_frames=8, **bad)
        assert "\n" not in str(error.value)
    with pytest.raises(ConfigError, match="must be 'gradcam' or 'layer_gradient'"):
        explain(model, paths[0], method="input_x_gradient")
    with pytest.raises(ConfigError, match="leave its encoder frozen"):
        fit(model, TensorClips(torch.zeros(2, FRAMES, 64, 64, 3, dtype=torch.uint8), torch.arange(2)))
    with pytest.raises(ConfigError, match="gradient steps"):
        vp.create_head("mean", 8, 2, 4).solve(torch.zeros(2, 4, 8), torch.arange(2))
