"""Every page. Routes, navigation and tests read `PAGES`: a new page is a view, a template and an entry here."""

from functools import partial

from starlette.routing import Route

from joblease_dashboard.pages.page import Page, Rooms
from joblease_dashboard.pages.views import ask, lists, replay, session, submit
from joblease_dashboard.pages.views.actions import actions
from joblease_dashboard.pages.views.job import job
from joblease_dashboard.pages.views.letters import letters
from joblease_dashboard.pages.views.locks import locks
from joblease_dashboard.pages.views.overview import overview
from joblease_dashboard.pages.views.queues import queues
from joblease_dashboard.pages.views.reference import reference
from joblease_dashboard.pages.views.workers import workers
from joblease_dashboard.problems import API_PAGE

PAGES = (
    Page(path="/", name="Overview", view=overview, scoped=True),
    Page(path="/jobs", name="Jobs", view=lists.jobs, scoped=True),
    Page(path="/events", name="Events", view=lists.events, scoped=True),
    Page(path="/workers", name="Workers", view=workers),
    Page(path="/locks", name="Locks", view=locks),
    Page(path="/queues", name="Queues", view=queues),
    Page(path="/actions", name="Actions", view=actions, scoped=True),
    Page(path="/jobs/{job_id}", view=job),
    Page(path="/submit", view=submit.show, form=submit.submit, scoped=True),
    Page(path="/jobs/{job_id}/{action}", view=ask.show, form=ask.act),
    Page(path="/queues/letters", view=letters),
    Page(path=API_PAGE, view=reference),
    Page(path="/queues/replay", view=replay.show, form=replay.replay),
    Page(path="/login", view=session.show, form=session.login),
    Page(path="/login/oidc", view=session.begin),
    Page(path="/login/callback", view=session.callback),
    Page(path="/logout", form=session.logout),
)
"""In the order of the navigation."""


def routes(rooms: Rooms) -> list[Route]:
    """Starlette's routes of all pages."""
    found = []
    for page in PAGES:
        if page.view:
            found.append(Route(page.path, partial(page.view, rooms)))
        if page.form:
            found.append(Route(page.path, partial(page.form, rooms), methods=["POST"]))
    return found
