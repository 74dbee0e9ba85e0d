"""Model folders: safetensors beside one json file that describes them."""
