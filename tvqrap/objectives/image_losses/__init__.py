"""The image losses of stages 1 and 3: their weighted sum and the GAN term."""
