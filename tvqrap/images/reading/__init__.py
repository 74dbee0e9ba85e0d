"""Reading image files: listing folders, opening, orientation, 16-bit pixels."""
