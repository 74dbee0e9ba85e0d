"""Conversions of trained models: from published checkpoints, to ONNX, to float16, to a mean."""
