"""The chat at a terminal, or over pipes.

`chat` is the dialogue: a loop of line in, answer out, over anything with the few methods of its
protocols. `commands` is what a line that begins with '/' does. `line` reads the lines, `text`
makes what a model says safe to show. Nothing here knows files, formats or llama.cpp.
"""
