"""The data rooms: toy densities, images, sound and text. Loads nothing by itself."""
