"""What all pages share: templates, and the colours for light and dark mode.

templates    opens a template
drawings     a drawing as part of a page
palette.css  the colours, as variables
"""
