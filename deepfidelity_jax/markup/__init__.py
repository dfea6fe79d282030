"""What the pages share: how a template is filled, and the colours, in light and in dark.

templates    opens a template
palette.css  the colours, as variables
"""
