"""What every answer says to browsers besides itself."""

CONTENT_SECURITY = (
    b"default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
HEADERS = [
    (b"content-security-policy", CONTENT_SECURITY),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"same-origin"),
]
NO_STORE = (b"cache-control", b"no-store")
"""Of all that is not the same for everybody: after a sign-out, nobody finds it in the browser."""
HTTPS_ONLY = (b"strict-transport-security", b"max-age=31536000")
