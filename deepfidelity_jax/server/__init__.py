"""A local page and an HTTP API for the verdicts of a detector.

serve      binds the port, owns the temporary folder, runs until Ctrl-C
app        the routes
guard      who may ask: hosts, foreign pages, headers of every answer
uploads    a file out of a form, streamed to disk
jobs       what waits, runs and has ended
workers    the processes that read files, as the server sees them
scorer     such a process from the inside
messages   what goes over the wire
refusal    a request that is not granted
static/    the page
"""
