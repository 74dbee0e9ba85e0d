"""A page in the browser that upscales photographs: `tvqrap-cli ui`."""
