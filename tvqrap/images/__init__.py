"""Opening image files and converting images to and from tensors."""
