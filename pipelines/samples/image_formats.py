"""Formats of image files; imports no library."""

# The only ones that Pillow may open, whatever the name of the file: it starts a program to draw PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
