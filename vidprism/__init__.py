__version__ = "0.1.0"

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
    "encoders.factory": "create_encoder",
    "encoders.cache": "FeatureCache cache_features encode_clips",
    "encoders.motion": "MotionEncoder motion_features",
    "heads.rgsta": "Merge RgSTA",
    "heads.dbi": "Exchange DBI",
    "heads.hmoe": "Mixture HMoE",
    "heads.losses": "ranking_loss ranking_target diversity_loss gate_balance_loss",
    "heads.base": "Head HeadOutput create_head register_head variant",
    "heads.released": "load_released_head load_released_mote",
    "model": "VideoModel zero_shot_model sample_model import_released interpolate",
    "training.trainer": "TrainConfig fit tune_encoder",
    "training.pipeline": "Run Split Trained evaluate_model split_clips train_clips",
    "evaluation.benchmark": "Benchmark Result TEMPLATES world_bench clip_bench",
    "evaluation.protocols": "close_set few_shot zero_shot over_splits cross_validate compare results_table isolate_experts",
    "evaluation.cost": "Cost head_cost measure_cost paper_costs draw_paper_costs",
    "interpret.explanation": "Explanation describe explain",
    "interpret.usage": "expert_usage",
    "viz.html": "prism_page",
    "viz.inspector": "ClipInspector",
    "experiments.studies": "Trial Study clips_study open_study paired run_cells world_study",
    "experiments.tables": "draw_table",
    "experiments.claims": "draw_claims",
}
_MODULE = {name: module for module, names in _WHERE.items() for name in names.split()}
__all__ = list(_MODULE)


def __getattr__(name):
    "Public names are looked up when they are first asked for: `import vidprism` alone loads nothing heavy."
    if name not in _MODULE: raise AttributeError(f"module 'vidprism' has no attribute {name!r}")
    return getattr(_import_module(f"vidprism.{_MODULE[name]}"), name)


def __dir__(): return sorted([*globals(), *__all__])
