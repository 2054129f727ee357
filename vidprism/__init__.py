__version__ = "0.1.0"

from importlib import import_module as _import_module

_WHERE = dict(
    backends="VidPrismError ClipError ConfigError",
    clips="Clip ClipInfo read_clip read_frames read_views clip_info read_clip_safely sample_clips",
    world="MOTIONS world_pictures world_clips",
    augment="Augment", datasets="k_shot grouped_folds source_of", lists="ClipList", loading="ClipDataset", quarantine="audit", forms="FORMS readable_name",
    cache="FeatureCache cache_features", encoders="Features FrameEncoder Preprocess create_encoder encode_clips find_device",
    motion="MotionEncoder motion_features",
    rgsta="Merge RgSTA", dbi="Exchange DBI", hmoe="Mixture HMoE",
    losses="ranking_loss ranking_target diversity_loss gate_balance_loss",
    heads="HeadOutput create_head register_head",
    model="VideoModel zero_shot_model sample_model import_released interpolate", importers="load_released_head load_released_mote",
    shards="ShardClips pack", training="TrainConfig fit tune_encoder",
    evaluation="Bench Result close_set few_shot zero_shot cross_validate compare results_table expert_usage isolate_experts world_bench clip_bench TEMPLATES",
    cost="Cost head_cost measure_cost",
    attribution="Explanation explain",
    inspector="ClipInspector", panels="prism_page",
    workflow="Run Split Trained evaluate_model split_clips train_clips",
    studies="Cell Study clips_study open_study paired run_cells world_study", tables="draw_claims draw_table")
_MODULE = {name: module for module, names in _WHERE.items() for name in names.split()}
__all__ = list(_MODULE)


def __getattr__(name):
    "Public names are looked up when they are first asked for: `import vidprism` alone loads nothing heavy."
    if name not in _MODULE: raise AttributeError(f"module 'vidprism' has no attribute {name!r}")
    return getattr(_import_module(f"vidprism.{_MODULE[name]}"), name)


def __dir__(): return sorted([*globals(), *__all__])
