"""Losses between images, with the perceptual network and the discriminator."""
