"""What the pages share: how templates are filled, and the colours for light and dark mode.

templates    opens a template
palette.css  the colours, as variables
"""
