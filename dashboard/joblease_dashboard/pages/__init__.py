"""HTML for people: views, templates and static files. `routes.PAGES` lists every page."""
