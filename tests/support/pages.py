"""The dashboard's pages, as its own list has them: no test can forget a new one."""

from joblease_dashboard.pages.routes import PAGES

ON_THE_WAY = ("/login/oidc", "/login/callback")
"""To an OIDC issuer and back: there is nothing to look at."""
VIEWS = [page for page in PAGES if page.view and page.path not in ON_THE_WAY]
NAVIGATION = {page.path: page.name for page in PAGES if page.name}
OF_A_NAMESPACE = [page.path for page in PAGES if page.name and page.scoped]
OF_ALL_NAMESPACES = [page.path for page in PAGES if page.name and not page.scoped]


def addresses(job_id: str, action: str = "cancel") -> list[str]:
    """Of all pages that can be looked at."""
    return [page.path.format(job_id=job_id, action=action) for page in VIEWS]


def without_form(job_id: str) -> list[str]:
    """Of those that only show something."""
    return [page.path.format(job_id=job_id) for page in VIEWS if not page.form]
