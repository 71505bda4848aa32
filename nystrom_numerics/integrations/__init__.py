"""Where the package meets others.  Each module imports the library that it is named after, and only there."""
