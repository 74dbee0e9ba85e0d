"""The networks: tokenizer, predictor, upscaler, discriminator, and their parts."""
