"""A local page and an HTTP API for the verdicts of a detector.

serve      binds the port, owns the temporary folder, runs until Ctrl-C
connections  closes idle connections
app        the routes
guard      which requests are allowed, and the headers of every answer
uploads    a file from a form, streamed to disk
jobs       queued, running and ended jobs
workers    the processes that read files: started, watched, replaced
scorer     the code that runs in such a process
messages   the schema of limits, jobs and errors
refusal    refused requests
static/    the page
"""
