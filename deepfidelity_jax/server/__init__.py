"""A local page and an HTTP API for the verdicts of a detector.

serve      binds the port, owns the temporary folder, runs until Ctrl-C
connections  which stay open
app        the routes
guard      which requests are allowed: hosts, foreign pages, headers of every answer
uploads    a file out of a form, streamed to disk
jobs       queued, running and ended jobs
workers    the processes that read files, as the server sees them
scorer     the code inside such a process
messages   the schema of limits, jobs and errors
refusal    a request that is refused
static/    the page
"""
