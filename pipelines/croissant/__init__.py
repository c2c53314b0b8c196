"""Croissant 1.0 (MLCommons), JSON-LD that says what files and fields a raw folder has: a module a modality.

Each has ``contents``. Unlike `pipelines.modalities` no stage imports them, so that a change here re-runs none.
"""
