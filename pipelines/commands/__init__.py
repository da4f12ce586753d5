"""The commands of `python -m pipelines`, one module each; a module's `register` adds its arguments and its handler."""
