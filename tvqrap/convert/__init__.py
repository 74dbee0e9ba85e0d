"""Conversions of models: published checkpoints, ONNX, number formats, means of weights."""
