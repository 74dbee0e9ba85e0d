"""Model folders: safetensors beside one JSON file that describes them."""
