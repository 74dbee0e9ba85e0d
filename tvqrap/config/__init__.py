"""Typed settings of training and evaluation, one frozen model for each section of params.yaml."""
