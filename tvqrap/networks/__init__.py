"""The networks: tokenizer, predictor, upscaler, and their parts."""
