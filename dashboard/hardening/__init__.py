"""What every answer tells browsers they may not do, and how large what comes in may be."""
