"""What all pages share: templates, and the colours for light and dark mode.

templates    opens a template
palette.css  the colours, as variables
"""
