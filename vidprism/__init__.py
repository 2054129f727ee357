"""See what temporal experts do with time: VidPrism and the systems it is measured against.

A map of the kit; every name below is imported from `vidprism`, and `help(name)` describes it.

Look at a clip
    sample_model, sample_clips      a trained model and clips that come with the kit
    ClipInspector(model, clips)     the widget; prism_page(explain(model, clip), "page.html") the page
    DatasetInspector(model, clips)  the widget for a whole set: table, map, usage by class, confusions, linked
    explain, describe               what a model did with a clip, as arrays: an Explanation
    clip_table(model, clips)        what it did with each clip of a data set: one row a clip
    frame_scores(model, clip)       what each frame added to each class's logit: an exact sum
    localise(model, video)          what happens when, in a video of any length

Use a model
    VideoModel                      from_pretrained, save_pretrained, predict, embed
    zero_shot_model                 a model that names classes by their text, without training
    load_released_head, load_released_mote, import_released     checkpoints of the papers' code

Train
    ClipList.from_any, audit_clips  a list or folder of clips, and a check of its files
    train_clips(data, Recipe(...))  split, encode, train, measure
    fit(model, data, TrainConfig(...))      the loop alone
    choose_rates(benchmark)         at which rates, by one training of all sets of experts
    cache_features, create_encoder  frames in, features out
    add_adapters, remove_adapters   ST-Adapter or AIM inside a frozen encoder

Compare
    close_set, few_shot, zero_shot, cross_validate      protocols on a Benchmark
    clips_study, world_study, draw_table, draw_claims   the papers' tables, run again
    head_cost, measure_cost         parameters, multiply-adds, time, memory
    expert_usage, isolate_experts   which classes use which expert

Build
    create_head(name, dim, ...)     "vidprism" "vidprism_lowdata" "bmoe" "mote" "transformer" "attentive_probe"
                                    "linear_probe" "statistics" "mean"
    Head, register_head, variant    a head of your own; a trained head with other options
    RgSTA, DBI, HMoE                the paper's three stages
    ranking_loss, diversity_loss, gate_balance_loss     its losses

The folders: data (files to batches), encoders, heads (the papers), model, training, evaluation, interpret (why this
answer), viz (pictures), experiments (tables), cli (the command `vidprism`).
"""

__version__ = "0.2.0"

import gc as _gc
from importlib import import_module as _import_module

_WHERE = {
    "errors": "VidPrismError ClipError ConfigError",
    "data.clips": "Clip ClipInfo read_clip read_frames read_views clip_info read_clip_safely sample_clips",
    "data.augment": "Augment",
    "data.splits": "k_shot grouped_folds source_of",
    "data.manifests": "FORMS readable_name",
    "data.cliplist": "ClipList read_class_splits",
    "data.audit": "audit_clips",
    "data.dataset": "ClipDataset",
    "data.shards": "ShardClips pack",
    "data.synthetic": "MOTIONS world_pictures world_clips",
    "encoders.base": "Features FrameEncoder Preprocess find_device",
    "encoders.motion": "ColourEncoder MotionEncoder colour_frames motion_features",
    "encoders.flow": "FLOW_BINS FLOW_SIDE FLOW_WIDTH FlowEncoder find_flow flow_cells",
    "encoders.factory": "create_encoder",
    "encoders.adapters": "AIMConfig STAdapterConfig add_adapters remove_adapters",
    "encoders.cache": "FeatureCache cache_features encode_clips",
    "heads.rgsta": "Merge RgSTA",
    "heads.dbi": "Exchange DBI",
    "heads.hmoe": "Mixture HMoE",
    "heads.losses": "ranking_loss ranking_target diversity_loss gate_balance_loss",
    "heads.base": "Head HeadOutput create_head register_head variant",
    "heads.released": "load_released_head load_released_mote",
    "model": "VideoModel zero_shot_model sample_model import_released interpolate",
    "training.trainer": "TrainConfig fit finetune_encoder",
    "training.pipeline": "Recipe Split Trained evaluate_model split_clips train_clips",
    "evaluation.benchmark": "Benchmark Result TEMPLATES world_bench clip_bench",
    "evaluation.protocols": "close_set few_shot zero_shot over_splits cross_validate compare isolate_experts "
    "results_table",
    "evaluation.rates": "RateChoice choose_rates",
    "evaluation.cost": "Cost head_cost measure_cost paper_costs draw_paper_costs",
    "interpret.explanation": "Explanation describe explain",
    "interpret.framewise": "frame_scores",
    "interpret.long_videos": "localise",
    "interpret.usage": "expert_usage",
    "interpret.clip_tables": "clip_table",
    "viz.html": "prism_page",
    "viz.inspector": "ClipInspector",
    "viz.dataset_inspector": "DatasetInspector",
    "experiments.studies": "Trial Study clips_study open_study paired run_cells world_study",
    "experiments.tables": "draw_table",
    "experiments.claims": "draw_claims",
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names.split()}
__all__ = list(_MODULE)


def _load(module):
    "Import a module. No garbage is collected meanwhile: eight full collections would take a third of the time."
    collects = _gc.isenabled()
    _gc.disable()
    try: return _import_module(f"vidprism.{module}")
    finally:
        if collects: _gc.enable()


def __getattr__(name):
    "Public names are looked up when they are first asked for: `import vidprism` alone loads nothing heavy."
    if name not in _MODULE: raise AttributeError(f"module 'vidprism' has no attribute {name!r}")
    return getattr(_load(_MODULE[name]), name)


def __dir__(): return sorted([*globals(), *__all__])
