"""Reading and writing images, their padding, and their conversion to and from tensors."""
