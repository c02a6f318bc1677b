"""A page that shows the history of a store: one file, or served over a live store.

`history` gathers what it shows, `document` puts it together, `server` serves it. What runs in the
browser lies beside them: `page.html`, `page.css`, and in the order in which they are put together
`time.js`, `history.js`, `tree.js`, `timeline.js`, `panels.js`, `main.js`.
"""
