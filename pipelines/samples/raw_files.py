"""Names and formats of files in raw folders; imports no library."""

RESPONSE_FILE = "response.parquet"
CELL_LINES_FILE = "cell_lines.csv"
DRUGS_FILE = "drugs.csv"

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

_OF_SYSTEMS = ("thumbs.db", "ehthumbs.db", "desktop.ini", "__macosx", "$recycle.bin", "system volume information")


def is_of_system(name: str) -> bool:
    """Whether a file is hidden or written by an operating system."""
    return name.startswith(".") or name.lower() in _OF_SYSTEMS
