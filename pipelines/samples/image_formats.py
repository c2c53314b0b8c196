"""What an image file may be; known by itself, so that who only looks at an upload loads nothing else."""

# Whatever a file is called: Pillow would start a program to draw PostScript.
FORMATS = ("PNG", "JPEG", "BMP", "TIFF", "GIF", "WEBP")
