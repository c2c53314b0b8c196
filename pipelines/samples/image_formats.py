"""Formats of image files; imports no library."""

# The only ones that Pillow may open, whatever the name of the file (it starts a program to draw PostScript), and their
# endings.
ENDINGS = {
    "PNG": (".png",),
    "JPEG": (".jpg", ".jpeg"),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "GIF": (".gif",),
    "WEBP": (".webp",),
}
FORMATS = tuple(ENDINGS)
