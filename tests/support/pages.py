"""The dashboard's pages, as its own list has them: no test can forget a new one."""

from joblease_dashboard.pages.routes import PAGES

NAVIGATION = {page.path: page.name for page in PAGES if page.name}
OF_A_NAMESPACE = [page.path for page in PAGES if page.name and page.scoped]
OF_ALL_NAMESPACES = [page.path for page in PAGES if page.name and not page.scoped]


def addresses(job_id: str, action: str = "cancel") -> list[str]:
    """Of all pages that can be looked at."""
    return [page.path.format(job_id=job_id, action=action) for page in PAGES if page.view]


def without_form(job_id: str) -> list[str]:
    """Of those that only show something."""
    return [page.path.format(job_id=job_id) for page in PAGES if page.view and not page.form]
